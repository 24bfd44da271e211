"""The daemon's local socket: what may be said on it, by whom, and both of its ends.

messages    parameters, events and results of every method                    pure
protocol    lines of JSON, framing, and who may call what                     pure
io/         server: the daemon's end (trio); client: the CLI's end (blocking, no trio)
"""
