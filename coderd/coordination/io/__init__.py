"""Shells of coordination: ``client`` for a node, ``server`` for the server."""
