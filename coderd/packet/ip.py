"""The IPv4 and IPv6 headers, as far as a tunnel reads them.

```
IPv4 (RFC 791)                              IPv6 (RFC 8200)
 0  1  version 4, header length in words     0  4  version 6, traffic class, flow label
 1  1  type of service                       4  2  payload length (without these 40 bytes)
 2  2  total length                          6  1  next header
 4  2  identification                        7  1  hop limit
 6  2  flags, fragment offset                8 16  source
 8  1  time to live                         24 16  destination
 9  1  protocol                             40  …  extension headers, payload
10  2  header checksum
12  4  source
16  4  destination
20  …  options, payload
```
"""

PROTOCOL_TCP = 6
PROTOCOL_UDP = 17

IPV4_HEADER_SIZE = 20
IPV6_HEADER_SIZE = 40
