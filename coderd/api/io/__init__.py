"""Shells of the API: ``routes`` for the server, ``client`` for commands and the daemon."""
