"""Shells of the node API.

node_api  the listener at a workspace, and the bytes behind a request
client    the caller's handshake, for tasks
blocking  the caller's handshake for commands, which do without trio
splice    bytes between two streams, both ways
"""
