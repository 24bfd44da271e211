"""DERP, the relay protocol: opaque packets between node keys, over one upgraded HTTP connection each.

frame         the frame table, encoders, and a reader over whole receive buffers
handshake     ClientInfo and ServerInfo: JSON in a NaCl box
queue         packets that wait for one connection: bounded, the oldest dropped first
client_rate   the rate of bytes that a relay grants each client
client        the client's end of a connection, pure
connection    the relay's end of one client's connection, pure
relay         the relay: connected clients, delivery of packets, PeerGone; pure
gate          limits of handshakes and connections, by network and in all; pure
dial_plan     addresses, names and certificate rules for dialling a region's node; pure
dial_history  nodes that failed lately, and those that only a WebSocket reaches; pure
upgrade       the HTTP that turns a connection into DERP, or into a WebSocket that carries it; pure
websocket     DERP's bytes in WebSocket messages, pure
io/           client (DerpLink), opening (one node: upgrade, else WebSocket), dial, tls, meta_certificate;
              server (RelayServer); websocket (WebSocketStream): trio around the pure parts

A connection's life, without fast start::

    client -> GET /derp, Upgrade: DERP
              101 + ServerKey                                        <- server
    client -> ClientInfo (its key, proved by the box), NotePreferred
              admission; ServerInfo                                  <- server
    client -> SendPacket(to, packet) ...   RecvPacket(from, packet) ... <- server
    either -> Ping, Pong                   KeepAlive, PeerGone        <- server
"""
