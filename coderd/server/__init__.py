"""The server: one process that introduces nodes to each other and relays for those without a direct path.

All shell.
run        ``run_server``: assembles everything
process    ``serve``: the process around it, with signals and systemd
state      the state directory: lock, keys, the first admin's token
directory  identities for coordination, relay and API, in threads; applies the effects of each change
derpmap    the relay map with the embedded relay
listen     the HTTP port, both address families on one socket
handlers/  the API's handlers
health/    findings and metrics of a running server
relay/     admission of node keys, and the standalone relay
node/      the server as a node of its own network
"""
