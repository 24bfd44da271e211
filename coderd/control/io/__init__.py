"""Both ends of the control socket: server and listening for the daemon (trio), client for the CLI (blocking)."""
