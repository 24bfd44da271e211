"""Process, sockets and files of a plain WireGuard."""
