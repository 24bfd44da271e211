"""The node API: what a workspace serves to its peers on TCP port 4 of its tailnet address.

message  requests, replies and refusals, one line each; pure
io       the listener, and the bytes behind a request
"""
