"""The TCP and UDP headers.

```
TCP (RFC 9293)                              UDP (RFC 768)
 0  4  source port, destination port         0  4  source port, destination port
 4  4  sequence number                       4  2  length: header and payload
 8  4  acknowledgement number                6  2  checksum; 0 is "none"
12  1  header length in words, reserved      8  …  payload
13  1  flags CWR ECE URG ACK PSH RST SYN FIN
14  2  window
16  2  checksum
18  2  urgent pointer
20  …  options, payload
```
"""

TCP_HEADER_SIZE = 20
UDP_HEADER_SIZE = 8

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10
TCP_CWR = 0x80


def tcp_header_length(data_offset: int) -> int:
    """Returns the bytes of a TCP header, options included, from its byte at offset 12 (``data_offset``)."""
    return (data_offset >> 4) * 4
