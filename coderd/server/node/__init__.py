"""The server as a node of its own network, without root.

Web apps and terminals in browsers reach workspaces through it.

enclave_process   a small program that makes a user and a network namespace with a TUN, and hands out sockets made in it
enclave           starts it, and receives the TUN's and the sockets' descriptors
membership        the server among the peers: what the registry tells it becomes its NetMap, without a token or a wire
server_node       all of it around a node's tunnel: dials a service of a workspace

The kernel inside the namespace does the TCP; the engine and its UDP sockets run in the server's process as on
any node. No other program is in that namespace, so one prefix route serves all peers and no port of the
host is used.
"""
