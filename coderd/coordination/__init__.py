"""Coordination: how nodes learn of each other, over one WebSocket to the server.

message        the schema of both ends, in JSON
entries        the schema's entries to the model's records, and a node's reachability to its message
parcel         one ``peers`` message as it is filled
proof          that a node holds the node key that it claims
resume         tokens that distinguish a machine that reconnects from a second one of its identity

The node's side:
netmap_client  what the server says, collected into one NetMap
dialled_map    the server's relay map as this node may dial it
saved_netmap   the NetMap in the node's state file
outbox         what a node still has to tell its server
reporter       what a node reports of its paths, and when
server_state   whether the node is connected

The server's side:
registry       who is connected, and who may see whom
viewer         what one connection was sent, is owed and holds back
shown_entry    what others are shown of a node
publication    how often what others are shown of a node may change
neighbours     which nodes may have to do with each other, by users (nodes_by_user) and the server's meetings
paths          what one connection has reported of its paths, and the counts of all
path_reports   what all connections have reported, looked at together
farewell       when each node shall come back to a server that ends

io, shells:
coordination_client   dials the server, and redials
link_end              what an error of that link means
coordination_server   the WebSocket endpoint
admission             who a node is that connects, and whether it may
node_link             one admitted node's WebSocket
keepalive             one timer for all links
"""
