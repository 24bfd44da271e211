"""One port for the relay, the API, the coordination WebSocket and the dashboard; and the client's end of it.

head            the head of a request or response: found, bounded, parsed; pure
methods         the request methods that are served; pure
forwarded       the client's address and scheme as trusted proxies report them; pure
server          serve_http: accept, TLS, read the first head, then the relay, a WebSocket or Hypercorn
drain           the end of a server once the requests in flight are answered
body            a request's body, bounded in bytes and seconds
tls             the server's certificates: files or its own, reloaded while it runs
self_signed     the certificate that a server makes for itself
pinned          TLS contexts of clients, one that trusts a single pinned certificate among them
tls_stream      TLS over a stream, for bulk
streams         accepted streams: replayed heads, write timeouts, aborting
web             Hypercorn's HTTP/1.1 server over one such stream
hypercorn_websocket  Hypercorn's WebSockets with bounds of their own
websocket       WebSockets of texts, on a stream of their own or through the app
wire            frames of a WebSocket, and messages gathered from them; pure
ws_handshake    a WebSocket's opening handshake; pure
turns           how many received events a task handles before other tasks run
relay_routes    the app's answers at a relay's paths
dialer          the client's end: TCP, an HTTP CONNECT proxy where the environment names one, TLS
"""
