"""What every long-running process needs: node, server, relay and plain WireGuard.

ending             SIGTERM and SIGINT, and a bound on the process's life after them
handed_on          takes a secret out of the environment
private_directory  a state directory: locked, private, its files replaced as a whole
stalls             number and length of the event loop's stalls; pure
supervisor         notifies systemd: ready, alive, stopping
turns              measures how long the event loop stands still
"""
