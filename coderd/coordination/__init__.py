"""Coordination: how nodes learn of each other, over one WebSocket to the server.

message    the schema of both ends, in JSON
proof      that a node holds the node key that it claims
client     what the server said -> NetMap; the relay map as this node must dial it; the NetMap kept in a file
registry   the server's side: who is connected, who sees whom, what each connection is owed
reporter   what a node tells of its paths, and when
paths      what the server keeps and counts of that
io         client (dials and redials), server (the WebSocket endpoint): shells, import them by their path
"""
