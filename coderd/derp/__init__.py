"""DERP, the relay protocol: opaque packets between node keys, over one upgraded HTTP connection each.

frame       the frame table, encoders, and a reader over whole receive buffers
handshake   ClientInfo and ServerInfo: JSON in a NaCl box
queue       packets waiting for one connection: runs, bounded, dropped at the head
limit       a token bucket
client      the client's end of a connection, pure
connection  one client's connection as the relay sees it, pure
relay       the relay: who is connected, who gets what, who is told that a peer has gone; pure
gate        how many strangers may begin at once, pure
dial_plan   which addresses, names and certificate rules a region's node is dialled with, pure
upgrade     the HTTP that turns a connection into DERP, or into a WebSocket that carries it; pure
websocket   DERP's bytes in WebSocket messages, pure
dial_history  what dialling has taught: who did not answer, where only a WebSocket gets through; pure
io/         client (DerpLink), opening (one node: upgrade, else WebSocket), dial, tls, meta_certificate;
            server (RelayServer); websocket (WebSocketStream): trio around the pure parts

A connection's life, without fast start::

    client -> GET /derp, Upgrade: DERP
              101 + ServerKey                                        <- server
    client -> ClientInfo (its key, proved by the box), NotePreferred
              admission; ServerInfo                                  <- server
    client -> SendPacket(to, packet) ...   RecvPacket(from, packet) ... <- server
    either -> Ping, Pong                   KeepAlive, PeerGone        <- server
"""
