"""The speed test's sockets: streams and client and worker block, without trio.

Server belongs to the daemon.
"""
