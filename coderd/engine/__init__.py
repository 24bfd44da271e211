"""A node, pure, and the shell around it.

node         the whole of a node: device, paths, filter, peers and the NetMap in force, drained as one
commands     what a node asks of the world
dataplane    the way of a packet: WireGuard above, paths below
roster       the peers, and which start of each is the present one; admission: what each may begin; pins
own_reach    where this node can be reached, as it reports to its server; handshake_failures: counted by cause
introduction what daemons say to each other inside the tunnel; tunnel_secrets: secrets that they exchange so
io/          tunnel: a node's sockets, relay links and TUN; driver: reads, feeds, drains, re-arms;
             relay_feed, network_feed: input from relays and kernel; answers: awaited pings and netchecks;
             relay_hosts: addresses of relays' names; clock: time that counts suspension; proofs: of secrets
"""
