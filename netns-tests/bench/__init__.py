"""``scripts/bench``: our data path against a real peer's, in one run, on one pair of hosts.

Its figures are ratios.

::

    contenders    tunnels between the two hosts, all up at once: ours, wireguard-go, any other program of its kind
    instruments   what is measured of one: iperf3, small datagrams, echoes, CPU time, memory
    results       figures of alternating rounds: medians, ratios, JSON, Markdown
    report        where they go: stdout, or the command's own section of docs/benchmarks.md
    throughput    one command: tunnels against each other
    outside       one command: the tunnel against no tunnel, on links of several speeds
    relay         one command: what one relay carries; ``derp_load`` its bare clients, ``relay_nodes`` its whole nodes
    coordinator   one command: what one server carries of nodes; ``coordinator_load`` is all the nodes
    packet        one command: each function of the data path by itself
    __main__      the command line; ``handshakes`` lives in bench_handshakes

Contenders alternate within every case, and who begins changes with every round, so that whatever else the
machine does meets all of them.
"""
