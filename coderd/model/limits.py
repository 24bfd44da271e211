"""Every limit on what comes from outside, in one place: sizes in bytes, times in seconds, rates per second, unless said otherwise.

The module that applies a limit gives it a name of its own, with the reason, and takes the value from here.
Not here: constants that a protocol fixes (WireGuard's timers, sizes of keys and headers), timeouts of a node
or the command line for its own waiting, and limits on the operator's files. ``docs/limits.md`` lists all
limits; ``tests/test_limits.py`` keeps code and page equal to this module.
"""

from typing import Final

# Everywhere

MAX_EVENTS_PER_TURN: Final = 16
"""Events (frames, chunks, lines, messages) that one task handles before it yields to other tasks, however small they are."""

# HTTP: any connection, before the client is authenticated

MAX_HTTP_HEAD: Final = 16 * 1024
"""Bytes of a request's head."""
MAX_HTTP_FIELDS: Final = 200
"""Fields of a request's head, as the cost of reading one grows with their number."""
HTTP_HEAD_TIMEOUT: Final = 10.0
"""Seconds for the TLS handshake, and again for the first request's head."""
MAX_HTTP_STRANGERS: Final = 2048
"""Connections of unauthenticated clients; beyond it, the oldest connection of the address with the most is aborted."""
HTTP_REFUSAL_TIMEOUT: Final = 1.0
"""Seconds for a refused client to read the refusal."""
HTTP_WRITE_TIMEOUT: Final = 30.0
"""Seconds that a write to a client may make no progress."""
HTTP_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the orderly end of a connection, after which it is aborted."""
HTTP_USER_TIMEOUT_MS: Final = 15_000
"""Milliseconds that sent bytes may stay unacknowledged by a client (TCP_USER_TIMEOUT, RFC 5482)."""
HTTP_KEEP_ALIVE_TIMEOUT: Final = 30.0
"""Seconds that a connection may wait for its next request."""
MAX_WEBSOCKET_MESSAGE: Final = 1 << 20
"""Bytes of a WebSocket message, on every path."""
WEBSOCKET_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the other end to answer a close frame."""
MAX_PROXY_HOPS: Final = 16
"""Addresses of proxies that are read from a forwarding header, from its end; addresses before them are ignored."""
RELAY_ROUTE_REFUSAL_TIMEOUT: Final = 1.0
"""Seconds to send a refusal on the relay's routes."""

# Identity and API

MAX_TOKEN: Final = 128
"""Characters of a token."""
ATTEMPTS_BURST: Final = 20.0
"""Burst of unknown tokens from one address (IPv6: one /64)."""
ATTEMPTS_RATE: Final = 0.2
"""Unknown tokens per second from one address (IPv6: one /64), in the long run."""
SITE_ATTEMPTS_BURST: Final = 100.0
"""Burst of unknown tokens from one IPv6 /48, whichever of its /64 networks they come from."""
SITE_ATTEMPTS_RATE: Final = 1.0
"""Unknown tokens per second from one IPv6 /48, in the long run."""
ALL_ATTEMPTS_BURST: Final = 400.0
"""Burst of unknown tokens from all clients together."""
ALL_ATTEMPTS_RATE: Final = 20.0
"""Unknown tokens per second from all clients together, in the long run."""
MAX_ATTEMPT_ADDRESSES: Final = 4096
"""Addresses with remembered failures, and as many IPv6 /48 sites."""
MAX_OPENINGS: Final = 100_000
"""Records of tunnels, web apps and terminals that were used; beyond it, the oldest of the user with the most are deleted."""
MAX_OPENINGS_WAITING: Final = 4096
"""Records of use that are queued for the database; beyond it, the user with the most queued loses one."""
MAX_WORKSPACES_PER_USER: Final = 1000
"""Workspaces that one user may have; the option --max-workspaces sets another number."""
MAX_DEVICES_PER_USER: Final = 100
"""Devices that one user may have; the option --max-devices sets another number."""
MAX_TOKENS_PER_USER: Final = 500
"""Sessions and join keys that one user may have; the option --max-tokens sets another number."""
MAX_APPS_PER_USER: Final = 1000
"""Web apps that one user may have set; the option --max-apps sets another number."""
MAX_SHARES_GIVEN: Final = 500
"""Shares and offers that one user may have given; the option --max-shares sets another number."""
MAX_SHARES_LISTED: Final = 500
"""Offers that a user is shown, the newest first, as any user can make offers to any name."""
OFFER_LIFETIME: Final = 14 * 24 * 3600.0
"""Seconds after which an offer that was not accepted expires."""
MAX_SAME_NAME: Final = 1000
"""Nodes of one kind and user with equal machine names."""
MAX_API_BODY: Final = 64 * 1024
"""Bytes of an API request's body."""
MAX_API_PAGE: Final = 500
"""Records in one page of a list."""
MAX_BODY_PIECES: Final = 4096
"""Pieces (chunks) of a body that is read whole, as each costs time however small it is."""
MAX_API_LIST: Final = 5000
"""Users, workspaces, devices or tokens in one page of a list."""
MAX_PATHS_LISTED: Final = 10_000
"""Paths between two nodes in one answer; more are left out."""
MAX_API_PAGE_BYTES: Final = 1 << 20
"""Bytes of one page of a list."""
API_BODY_TIMEOUT: Final = 10.0
"""Seconds for an API request's whole body to arrive."""
MAX_STORE_THREADS: Final = 8
"""Threads that use the store at a time."""
MAX_KNOWN_TOKENS: Final = 65_536
"""Recently valid tokens that are remembered, so that failed attempts from their users' addresses do not lock them out."""
MAX_ECHO: Final = 64
"""Bytes of the one message that the server sends back when an operator checks access to it."""
ECHO_TIMEOUT: Final = 5.0
"""Seconds for the message of an access check to arrive."""
MAX_VERIFY_QUESTION: Final = 4096
"""Bytes of a relay's question whether to admit a client."""
VERIFY_QUESTION_TIMEOUT: Final = 5.0
"""Seconds for a relay's question whether to admit a client to arrive."""
VERIFY_RATE: Final = 500.0
"""Relays' questions that are answered per second, from all addresses together, in the long run."""
VERIFY_BURST: Final = 5000.0
"""Burst of relays' questions from all addresses together, as all clients reconnect at once after a relay restarts."""
VERIFY_KNOWN_RATE: Final = 250.0
"""Relays' questions per second in reserve beyond VERIFY_RATE, for addresses that recently asked about a known node."""
VERIFY_KNOWN_BURST: Final = 2500.0
"""Burst of relays' questions in reserve beyond VERIFY_BURST, for addresses that recently asked about a known node."""
VERIFY_SOURCE_RATE: Final = 100.0
"""Relays' questions about unknown keys per second from one address (IPv6: one /64), in the long run."""
VERIFY_SOURCE_BURST: Final = 1000.0
"""Burst of relays' questions about unknown keys from one address (IPv6: one /64)."""
VERIFY_SITE_RATE: Final = 200.0
"""Relays' questions about unknown keys per second from one IPv6 /48, in the long run."""
VERIFY_SITE_BURST: Final = 2000.0
"""Burst of relays' questions about unknown keys from one IPv6 /48."""
MAX_VERIFY_SOURCES: Final = 4096
"""Addresses with remembered questions of relays, and as many IPv6 /48 sites."""

# Coordination: nodes

MAX_NODE_MESSAGE: Final = 64 * 1024
"""Bytes of a node's text message; a longer one ends its connection."""
MAX_ENTRIES: Final = 256
"""Peers, or path reports, in one message."""
MAX_ENDPOINTS: Final = 32
"""Endpoints of one node."""
MAX_READY: Final = 1024
"""Peers that one message may list as known."""
MAX_CAPABILITIES: Final = 16
"""Capabilities that one node may list in its hello."""
MAX_CAUSES: Final = 16
"""Causes of failed handshakes in one message."""
COORDINATION_SILENCE_TIMEOUT: Final = 10.0
"""Seconds without any message after which the other end of a coordination connection counts as dead."""
HELLO_TIMEOUT: Final = 10.0
"""Seconds for a node to authenticate."""
COORDINATION_WRITE_TIMEOUT: Final = 10.0
"""Seconds for one message to be sent to a node; a slower node is disconnected, and gets the full state when it reconnects."""
COORDINATION_CLOSE_TIMEOUT: Final = 1.0
"""Seconds to send a coordination connection's closing message."""
NODE_MESSAGE_RATE: Final = 20.0
"""Messages per second from one node, in the long run."""
NODE_MESSAGE_BURST: Final = 200.0
"""Burst of messages from one node."""
PUBLICATION_INTERVAL: Final = 0.5
"""Seconds between two changes of one node that are sent to its peers, in the long run; of the changes between, only the newest is sent."""
PUBLICATION_BURST: Final = 4
"""Burst of changes of one node that are sent to its peers, over all of its connections."""
MAX_PATH_REPORTS: Final = 1024
"""Path reports that are kept of one connection."""
PATH_COUNT_BURST: Final = 256.0
"""Burst of path changes of one connection that are counted."""
PATH_COUNT_RATE: Final = 4.0
"""Path changes per second of one connection that are counted, in the long run."""
RESUME_LIFETIME: Final = 24 * 3600.0
"""Seconds until a resume token expires."""

# What a workspace serves inside the tunnel

MAX_NODE_API_CONNECTIONS: Final = 384
"""Connections to the node API (ports, terminals, requests); beyond it, a newcomer takes the newest connection of the person with the most."""
MAX_NODE_API_CONNECTIONS_PER_PERSON: Final = 192
"""Connections to the node API from all machines of one person; the server's node counts as a person."""
MAX_NODE_API_STRANGERS: Final = 128
"""Connections to the node API that have not sent their request."""
MAX_NODE_API_STRANGERS_PER_PERSON: Final = 64
"""Connections to the node API without a request, from all machines of one person; beyond it, the oldest is closed."""
NODE_API_REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a peer to send its request to the node API."""
MAX_SPEEDTEST_STRANGERS: Final = 16
"""Connections to the speed test that have not sent their request."""
MAX_SPEEDTEST_STRANGERS_PER_PERSON: Final = 4
"""Connections to the speed test without a request, from all machines of one person; beyond it, the oldest is closed."""

TUNNEL_SECRET_TIMEOUT: Final = 2.0
"""Seconds that a connection with a secret that the peer's daemon has not announced waits for the announcement."""
INTRODUCTION_RATE: Final = 8.0
"""Introduction packets per second that are accepted from one peer's daemon inside the tunnel, in the long run."""
INTRODUCTION_BURST: Final = 16.0
"""Burst of introduction packets that are accepted from one peer's daemon inside the tunnel."""
INTRODUCED_RATE: Final = 0.2
"""Restarts per second that one peer may announce by itself, without confirmation by the server, in the long run."""
INTRODUCED_BURST: Final = 4.0
"""Burst of restarts that one peer may announce by itself, without confirmation by the server."""
MAX_INTRODUCERS: Final = 4096
"""Peers with counted introductions and restarts; beyond it, the counts of the peer that was silent longest are forgotten."""

# The relay

MAX_DERP_PACKET: Final = 65536
"""Bytes of a datagram inside a DERP frame."""
MAX_DERP_FRAME: Final = 1 << 20
"""Bytes of the payload of any DERP frame."""
MAX_DERP_CLIENT_INFO: Final = 256 * 1024
"""Bytes of the client info frame."""
MAX_DERP_WEBSOCKET_FRAMES: Final = 32
"""WebSocket frames of a DERP stream that are handled in one go, as each costs time however small it is."""
MAX_DERP_FRAMES_PER_TURN: Final = 64
"""DERP frames of one stream that are handled before other tasks run; 16 consecutive packets of one destination and size count as one."""
MAX_DERP_PING: Final = 1000
"""Bytes of a DERP ping."""
MAX_DERP_CONNECTIONS_OF_KEY: Final = 8
"""Connections of one node key to the relay."""
DERP_HANDSHAKE_RATE: Final = 500.0
"""DERP handshakes per second from all clients together, in the long run."""
DERP_HANDSHAKE_BURST: Final = 2000.0
"""Burst of DERP handshakes from all clients together, as all clients reconnect at once after a relay restarts."""
DERP_KNOWN_HANDSHAKE_RATE: Final = 250.0
"""DERP handshakes per second in reserve beyond DERP_HANDSHAKE_RATE, for addresses with a recently admitted key."""
DERP_KNOWN_HANDSHAKE_BURST: Final = 1000.0
"""Burst of DERP handshakes in reserve beyond DERP_HANDSHAKE_BURST, for addresses with a recently admitted key."""
DERP_SOURCE_HANDSHAKE_RATE: Final = 10.0
"""DERP handshakes per second from one address (IPv6: one /64) that do not end in an admitted key, in the long run."""
DERP_SOURCE_HANDSHAKE_BURST: Final = 256.0
"""Burst of DERP handshakes from one address (IPv6: one /64) that do not end in an admitted key."""
DERP_SITE_HANDSHAKE_RATE: Final = 40.0
"""DERP handshakes per second from one IPv6 /48 that do not end in an admitted key, in the long run."""
DERP_SITE_HANDSHAKE_BURST: Final = 1024.0
"""Burst of DERP handshakes from one IPv6 /48 that do not end in an admitted key."""
DERP_HANDSHAKES_PER_SOURCE: Final = 256
"""Concurrent DERP handshakes from one address (IPv6: one /64)."""
DERP_HANDSHAKES_PER_SITE: Final = 1024
"""Concurrent DERP handshakes from one IPv6 /48."""
DERP_RETURN_INTERVAL: Final = 10.0
"""Seconds before another handshake of an admitted key is given back to its address; a key that reconnects more often pays for each."""
MAX_DERP_SOURCES: Final = 65_536
"""Addresses with remembered DERP handshakes, and as many IPv6 /48 sites."""
MAX_DERP_KNOWN_KEYS: Final = 65_536
"""Admitted keys with a remembered address."""
DERP_QUEUE_PACKETS: Final = 512
"""Packets that are queued for one client of the relay."""
DERP_QUEUE_BYTES: Final = 2 << 20
"""Bytes of the packets that are queued for one client of the relay."""
DERP_DISCO_QUEUE_PACKETS: Final = 64
"""Discovery packets that are queued for one client of the relay, in a queue of their own."""
DERP_DISCO_QUEUE_BYTES: Final = 256 * 1024
"""Bytes of the discovery packets that are queued for one client of the relay."""
MAX_DERP_HEARD: Final = 4096
"""Clients that one client is notified of when they disconnect from the relay."""
DERP_NOT_HERE_RATE: Final = 1.0
"""Notices per second to one client that a packet's destination is not connected to the relay, in the long run."""
DERP_NOT_HERE_BURST: Final = 3.0
"""Burst of notices to one client that a packet's destination is not connected to the relay."""
DERP_HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds to send the relay's greeting, and again for the client's to arrive."""
DERP_ADMIT_TIMEOUT: Final = 5.0
"""Seconds for the decision whether a client is admitted to the relay."""
DERP_WRITE_TIMEOUT: Final = 2.0
"""Seconds that a write to a client of the relay may make no progress; the queued packets are stale by then."""
DERP_REFUSAL_TIMEOUT: Final = 1.0
"""Seconds for a client that the relay refuses to read the refusal."""

# What is shown to people

MAX_SHOWN_TEXT: Final = 4096
"""Characters of a line of untrusted text on a terminal or in a log."""
MAX_SHOWN_CELL: Final = 256
"""Characters of a table's cell of untrusted text, except the last cell of a row."""

# STUN

STUN_LARGER_RATE: Final = 10.0
"""STUN responses per second that are larger than their requests, to one address (IPv6: one /64), in the long run."""
STUN_LARGER_BURST: Final = 50
"""Burst of STUN responses that are larger than their requests, to one address (IPv6: one /64)."""
STUN_ALL_LARGER_RATE: Final = 1000.0
"""STUN responses per second that are larger than their requests, to all addresses together, in the long run."""
STUN_ALL_LARGER_BURST: Final = 2000
"""Burst of STUN responses that are larger than their requests, to all addresses together."""
MAX_STUN_SOURCES: Final = 4096
"""Addresses with counted STUN responses that are larger than their requests; beyond it, the least recently used is forgotten."""

# Browsers: sign-in, web apps, terminals

MAX_FORM: Final = 8192
"""Bytes of a submitted form."""
MAX_FORM_FIELDS: Final = 16
"""Fields of a submitted form."""
FORM_TIMEOUT: Final = 10.0
"""Seconds for a submitted form to arrive."""
PASS_LIFETIME: Final = 12 * 3600.0
"""Seconds that a browser is signed in to an app's own host, before the server's page must sign it in there again."""
BROWSER_SESSION_LIFETIME: Final = 12 * 3600.0
"""Seconds that a browser is signed in to the server."""
TICKET_LIFETIME: Final = 30.0
"""Seconds for a browser to get from the server's page to an app's own host, with a ticket."""
MAX_TICKETS: Final = 4096
"""Tickets of browsers on their way to an app's own host; beyond it, the oldest is forgotten."""
MAX_APP_GRANTS: Final = 1024
"""Access requests to apps with remembered grants."""
MAX_APP_STREAMS: Final = 256
"""Open requests and WebSockets of one person to apps, over all of their sessions."""
MAX_APP_STREAMS_OF_WORKSPACE: Final = 144
"""Open requests and WebSockets to the apps of one workspace; beyond it, a newcomer takes the newest place of the person with the most."""
MAX_APP_STREAMS_OF_WORKSPACE_EACH: Final = 128
"""Open requests and WebSockets of one person to the apps of one workspace; all unauthenticated clients count as one person."""
MAX_APP_HEAD: Final = 64 * 1024
"""Bytes of the head of an app's response."""
MAX_APP_INTERIM: Final = 16
"""Interim (1xx) responses that an app may send before its final response."""
APP_WEBSOCKET_TIMEOUT: Final = 30.0
"""Seconds for an app to accept a WebSocket."""
MAX_APP_REFUSAL: Final = 64 * 1024
"""Bytes of the response that an app sends instead of accepting a WebSocket."""
APP_WEBSOCKET_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the orderly end of an app's WebSocket."""
APP_IDLE_TIMEOUT: Final = 3.0
"""Seconds that an idle connection to an app is kept."""
MAX_APP_IDLE: Final = 256
"""Idle connections to apps that are kept."""
MAX_APP_IDLE_PER_ROUTE: Final = 8
"""Idle connections that are kept to one port of one workspace."""
MAX_APP_IDLE_PER_WORKSPACE: Final = 24
"""Idle connections that are kept to one workspace."""
MAX_APP_CARRIED: Final = 16 * 1024 * 1024
"""Bytes of bodies after which a connection to an app is not reused."""
MAX_TERMINAL_BODY: Final = 16_384
"""Bytes of the body of a terminal's frame."""
MAX_TERMINAL_SIDE: Final = 4096
"""Rows or columns of a terminal's screen."""
TERMINAL_WINDOW: Final = 128 * 1024
"""Bytes of a terminal's output that a browser has not acknowledged."""
MAX_TERMINALS: Final = 64
"""Shells of one workspace."""
MAX_TERMINALS_PER_PEER: Final = 16
"""Shells of one workspace that one machine opened."""
MAX_TERMINALS_PER_PERSON: Final = 32
"""Shells of one workspace that all machines of one person opened; the server, with all browsers, counts as one person."""
TERMINALS_RESERVED: Final = 16
"""Shells, out of all of one workspace, that only the workspace's owner may open."""
TERMINAL_DETACHED_LIFETIME: Final = 3600.0
"""Seconds that a shell runs while no client is attached."""
MAX_TERMINAL_GRACE: Final = 60.0
"""Seconds that a shell keeps running, at most, after its owner has lost access."""
MAX_TERMINALS_HELD: Final = 4096
"""Shells opened by browsers that the server remembers."""
TERMINAL_BRIDGE_OPEN_TIMEOUT: Final = 10.0
"""Seconds for a browser to request a shell after it connects."""
TERMINAL_BROWSER_SILENCE_TIMEOUT: Final = 30.0
"""Seconds without a message after which a browser counts as gone."""
TERMINAL_SEND_TIMEOUT: Final = 30.0
"""Seconds that a write to a browser may make no progress."""
TERMINAL_FAREWELL_TIMEOUT: Final = 1.0
"""Seconds to send a closing message to a browser."""
TERMINAL_OPEN_TIMEOUT: Final = 10.0
"""Seconds for a client to request a shell after it connects."""
TERMINAL_SILENCE_TIMEOUT: Final = 45.0
"""Seconds without a frame after which a client of a terminal counts as gone."""
MAX_TERMINALS_ENDING: Final = 16
"""Workspaces that the server asks concurrently to end shells."""
TERMINAL_END_TIMEOUT: Final = 10.0
"""Seconds to end a shell that a browser left behind."""
TERMINAL_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the orderly end of a browser's WebSocket."""
