"""Where WireGuard and the paths meet, and the loop that moves bytes between TUN, sockets and relays.

dataplane   the pure meeting point: WireGuard above, paths below
plain       paths without magicsock: one endpoint per peer
configuration  what wg asks of a plain device and its endpoints, and what it is told
io/         driver: reads, feeds, drains, re-arms; clock: suspend-aware time; node_api: loopback services for peers;
            plain_sockets: a plain WireGuard's, swapped under way; uapi: the socket for wg; removal: of its file
"""
