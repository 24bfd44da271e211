"""The server: one process that introduces nodes to each other and, when it must, relays for them. All shell.

run        ``run_server``: assembles everything; ``serve``: the process around it, with signals and systemd
state      the state directory: lock, keys, the first admin's token
directory  identities in threads, for coordination, relay and API; what a deletion must end
derpmap    the relay map with the embedded relay
listen     the HTTP port, both address families on one socket
handlers/  what the API does
health/    findings and figures of a running server
relay/     admission of node keys, and a relay that runs alone
node/      the server as a node of its own network
"""
