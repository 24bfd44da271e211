"""A stock WireGuard on the engine: configured by ``wg``, without server, relay or magicsock.

paths          one endpoint per peer, learned from authenticated packets; pure
configuration  what wg's ``set`` changes and its ``get`` reports; pure
io/            run: the process; sockets: replaced while it runs; uapi: the socket for wg; removal: waits until that socket's file is gone;
               background: detaches the process when it is ready
"""
