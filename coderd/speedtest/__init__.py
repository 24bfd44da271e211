"""The speed test: one TCP stream through the tunnel to a peer's port 3, counted in intervals.

plan        the start request and its reply, and what a serving node accepts     pure
tally       bytes into intervals, cut by time                                    pure
paths       which path carried how many bytes between two instants               pure
report      the text that scripts parse, and the JSON                            pure
io/         streams: moves the bytes; client: the CLI's end; server: the daemon's end; worker: its process
"""
