"""Where WireGuard and the paths meet, and the loop that moves bytes between TUN, sockets and relays.

dataplane   the pure meeting point: WireGuard above, paths below
io/         driver: reads, feeds, drains, re-arms; clock: suspend-aware time; proofs: secrets shown
"""
