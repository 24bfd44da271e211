"""Shells of the web apps: the gate, sign-in, HTTP and WebSocket."""
