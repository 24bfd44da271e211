"""Examines a node's network: netcheck, ``why``, ping, speedtest and ``derp-map --check`` of ``coderctl``.

survey        netcheck, NAT behavior, server reachability, captive portal; this node's facts for its peers
nat_behavior  the questions of RFC 5780 to one STUN server
measure       pings and speed tests of one peer
relay_check   probes of every node of a relay map
causes        derives the causes of a relayed path from both ends' facts; pure
ask           the answers to ``netcheck`` and ``why``
"""
