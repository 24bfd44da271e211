"""One port for everything: the relay, the API, the coordination WebSocket, the dashboard.

head       a request's or response's head: found, bounded, parsed
server     serve_http: accept, TLS, sniff the head, then the relay or Hypercorn
body       a request's body, bounded
tls        the server's certificates: files or its own, read again while it runs
self_signed    the one that it makes for itself
pinned     a client held to that one, by its SHA-256
tls_stream    TLS over a stream, for bulk
streams    the streams of a server: replayed heads, write timeouts, aborting
web        Hypercorn's HTTP/1.1 and WebSocket server over one such stream
ws_handshake   how a WebSocket is opened: the key, the proof, the fields around them; pure
relay_routes   what the app answers for a relay's HTTP surface
dialer     the other end: TCP, an HTTP CONNECT proxy where the environment names one, TLS
"""
