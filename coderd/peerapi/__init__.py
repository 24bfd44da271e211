"""The node API: what a workspace serves to its peers on TCP port 4 of its tailnet address.

message      requests, replies and refusals, one line each           pure
line_reader  the line that opens a stream, bounded; both ends'       pure
io/          the listener and what it opens; the caller's handshake
"""
