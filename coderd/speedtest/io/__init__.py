"""The speed test's sockets: streams and client and worker block, without trio; server belongs to the daemon."""
