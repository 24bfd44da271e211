"""Where WireGuard and the paths meet, and the loop that moves bytes between TUN, sockets and relays.

dataplane   the pure meeting point: WireGuard above, paths below
io/         tunnel: one node's sockets, relay links and TUN; relay_hosts: addresses of the relays' host names;
            driver: reads, feeds, drains, re-arms; clock: suspend-aware time; proofs: secrets shown
"""
