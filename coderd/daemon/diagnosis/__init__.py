"""A node looks at its network: what ``coderctl netcheck``, ``why``, ``ping``, ``speedtest`` and ``derp-map --check`` are answered from.

survey        netcheck, NAT behavior, server reachability and captive portal, measured side by side; this node's facts for its peers
nat_behavior  RFC 5780's questions to one STUN server
measure       pings and speed tests of one peer
relay_check   each relay of a map, probed as nodes use it
causes        both ends' facts to the causes of a relayed path; pure
ask           the answers to ``netcheck`` and ``why``
"""
