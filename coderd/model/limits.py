"""Every limit on what comes from outside, in one place: sizes in bytes, times in seconds, rates per second, unless said otherwise.

Whoever applies a limit names it in its own module, where its reason stands, and has the value from here. Not
here: what a protocol fixes (WireGuard's timers, sizes of keys and headers), what a node or the command line
waits for by itself, and limits on files of the operator. ``docs/limits.md`` shows all of them;
``tests/test_limits.py`` holds code and page to this module.
"""

from typing import Final

# Everywhere

MAX_EVENTS_PER_TURN: Final = 16
"""Events (frames, chunks, lines, messages) that one task works off before others run, however small they are."""

# HTTP: any connection, before anybody has said who it is

MAX_HTTP_HEAD: Final = 16 * 1024
"""Bytes of a request's head."""
MAX_HTTP_FIELDS: Final = 200
"""Fields of a request's head: it costs by their number to read one."""
HTTP_HEAD_TIMEOUT: Final = 10.0
"""Seconds for the TLS handshake, and again for the first head."""
MAX_HTTP_STRANGERS: Final = 2048
"""Connections of clients that have not said who they are; with one more, the oldest of whatever address has most is given up."""
HTTP_REFUSAL_TIMEOUT: Final = 1.0
"""Seconds for a refused client to take the refusal."""
HTTP_WRITE_TIMEOUT: Final = 30.0
"""Seconds that a client may take nothing of what is written to it."""
HTTP_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the end of a connection."""
HTTP_USER_TIMEOUT_MS: Final = 15_000
"""Milliseconds that a client may leave bytes unacknowledged."""
HTTP_KEEP_ALIVE_TIMEOUT: Final = 30.0
"""Seconds that a connection may wait for its next request."""
MAX_WEBSOCKET_MESSAGE: Final = 1 << 20
"""Bytes of a WebSocket message, of whatever path."""
WEBSOCKET_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the other end to answer a close."""
MAX_PROXY_HOPS: Final = 16
"""Proxies in a row that are looked through; a longer tale is not believed at all."""
RELAY_ROUTE_REFUSAL_TIMEOUT: Final = 1.0
"""Seconds for the refusal where there is no relay."""

# Identity and API

MAX_TOKEN: Final = 128
"""Characters of a token."""
ATTEMPTS_BURST: Final = 20.0
"""Unknown tokens that one address, of IPv6 a /64, may try at once."""
ATTEMPTS_RATE: Final = 0.2
"""Unknown tokens per second of one origin, in the long run."""
SITE_ATTEMPTS_BURST: Final = 100.0
"""Unknown tokens that an IPv6 /48 may try at once, whichever of its networks they come from."""
SITE_ATTEMPTS_RATE: Final = 1.0
"""Unknown tokens per second of one IPv6 /48, in the long run."""
ALL_ATTEMPTS_BURST: Final = 400.0
"""Unknown tokens that everybody together may try at once."""
ALL_ATTEMPTS_RATE: Final = 20.0
"""Unknown tokens per second of all together, in the long run."""
MAX_ATTEMPT_ADDRESSES: Final = 4096
"""Addresses whose failures are remembered, and as many sites."""
MAX_OPENINGS: Final = 100_000
"""Records of tunnels, web apps and terminals that were used; for more, the oldest of who has most go."""
MAX_OPENINGS_WAITING: Final = 4096
"""Such records that wait for the database; for one more, who has most there loses one."""
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
"""Offers that a user is shown, the newest first."""
OFFER_LIFETIME: Final = 14 * 24 * 3600.0
"""Seconds after which an offer that nobody has accepted is gone."""
MAX_SAME_NAME: Final = 1000
"""Nodes of one kind and user whose machines bear the same name."""
MAX_API_BODY: Final = 64 * 1024
"""Bytes of a request's body."""
MAX_API_PAGE: Final = 500
"""Records of one page of a list."""
MAX_BODY_PIECES: Final = 4096
"""Pieces (chunks) in which a body that is read whole may come."""
MAX_API_LIST: Final = 5000
"""Things of one page of a list of users, workspaces, devices or tokens."""
MAX_PATHS_LISTED: Final = 10_000
"""Paths between two nodes of one answer; what is beyond is left out."""
MAX_API_PAGE_BYTES: Final = 1 << 20
"""Bytes of such a page."""
API_BODY_TIMEOUT: Final = 10.0
"""Seconds for a request's whole body."""
MAX_STORE_THREADS: Final = 8
"""Questions to the store at once."""
MAX_KNOWN_TOKENS: Final = 65_536
"""Tokens that are remembered as good of late."""
MAX_ECHO: Final = 64
"""Bytes of the one message that is sent back to whoever checks the way to the server."""
ECHO_TIMEOUT: Final = 5.0
"""Seconds for that message to come."""
MAX_VERIFY_QUESTION: Final = 4096
"""Bytes of a relay's question whether to serve somebody."""
VERIFY_QUESTION_TIMEOUT: Final = 5.0
"""Seconds for that question to come."""
VERIFY_RATE: Final = 500.0
"""Such questions answered per second in the long run."""
VERIFY_BURST: Final = 5000.0
"""And at once: everybody comes back to a relay that restarts."""
VERIFY_KNOWN_RATE: Final = 250.0
"""Beside those, per second: of relays at addresses that have asked for a node of ours lately."""
VERIFY_KNOWN_BURST: Final = 2500.0
"""And at once."""
VERIFY_SOURCE_RATE: Final = 100.0
"""Such questions per second from one address, of IPv6 a /64, whose answer is no."""
VERIFY_SOURCE_BURST: Final = 1000.0
"""And at once."""
VERIFY_SITE_RATE: Final = 200.0
"""Such questions per second from one IPv6 /48."""
VERIFY_SITE_BURST: Final = 2000.0
"""And at once."""
MAX_VERIFY_SOURCES: Final = 4096
"""Addresses whose questions are remembered, and as many /48."""

# Coordination: nodes

MAX_NODE_MESSAGE: Final = 64 * 1024
"""Bytes of a text from a node; a longer one ends its connection."""
MAX_ENTRIES: Final = 256
"""Peers, or reports of paths, in one message."""
MAX_ENDPOINTS: Final = 32
"""Endpoints of one node."""
MAX_READY: Final = 1024
"""Peers that one message may call known."""
MAX_CAPABILITIES: Final = 16
"""Abilities that one node may name in its hello."""
MAX_CAUSES: Final = 16
"""Kinds of failed handshakes in one message."""
COORDINATION_SILENCE_TIMEOUT: Final = 10.0
"""Seconds without any message after which the other end counts as dead."""
HELLO_TIMEOUT: Final = 10.0
"""Seconds for a node to prove who it is."""
COORDINATION_WRITE_TIMEOUT: Final = 10.0
"""Seconds that one message may take to leave; a slower node is dropped, and learns all anew when it returns."""
COORDINATION_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the last words."""
NODE_MESSAGE_RATE: Final = 20.0
"""Messages per second that a node may send in the long run."""
NODE_MESSAGE_BURST: Final = 200.0
"""And at once."""
PUBLICATION_INTERVAL: Final = 0.5
"""Seconds between two changes of one node that its peers are told of, in the long run; of those between, the newest."""
PUBLICATION_BURST: Final = 4
"""Changes of one node that its peers are told of at once, over all of its connections."""
MAX_PATH_REPORTS: Final = 1024
"""Reports of paths that are kept of one connection."""
PATH_COUNT_BURST: Final = 256.0
"""Changes of paths of one connection that are counted at once."""
PATH_COUNT_RATE: Final = 4.0
"""Counts per second of one connection, in the long run."""
RESUME_LIFETIME: Final = 24 * 3600.0
"""Seconds that a resume token counts."""

# What a workspace serves inside the tunnel

MAX_NODE_API_CONNECTIONS: Final = 384
"""Connections that the node API serves: ports, terminals and questions; a newcomer takes the newest place of whoever has most."""
MAX_NODE_API_CONNECTIONS_PER_PERSON: Final = 192
"""Of them, of one person's machines together; the server's node counts as a person."""
MAX_NODE_API_STRANGERS: Final = 128
"""Connections to the node API that have not said what they want."""
MAX_NODE_API_STRANGERS_PER_PERSON: Final = 64
"""Of them, from one person's machines; one more, and the oldest of them is given up."""
NODE_API_REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a peer to say what it wants of the node API."""
MAX_SPEEDTEST_STRANGERS: Final = 16
"""Connections that wait to say which speed test they want."""
MAX_SPEEDTEST_STRANGERS_PER_PERSON: Final = 4
"""Of them, from one person's machines; one more, and the oldest of them is given up."""

TUNNEL_SECRET_TIMEOUT: Final = 2.0
"""Seconds that whoever shows another secret than a peer's daemon has told waits for the daemon to tell this one."""
INTRODUCTION_RATE: Final = 8.0
"""Packets per second, in the long run, that a peer's daemon may say to ours inside the tunnel."""
INTRODUCTION_BURST: Final = 16.0
"""And at once."""
INTRODUCED_RATE: Final = 0.2
"""Times per second, in the long run, that a peer may say itself that it has restarted, without the server's word."""
INTRODUCED_BURST: Final = 4.0
"""And at once."""
MAX_INTRODUCERS: Final = 4096
"""Peers whose introductions and restarts are counted; past it the one that has said nothing for longest is counted anew."""

# The relay

MAX_DERP_PACKET: Final = 65536
"""Bytes of a datagram inside a frame."""
MAX_DERP_FRAME: Final = 1 << 20
"""Bytes of the payload of any frame that is read at all."""
MAX_DERP_CLIENT_INFO: Final = 256 * 1024
"""Bytes of what a client says of itself."""
MAX_DERP_WEBSOCKET_FRAMES: Final = 32
"""WebSocket frames that are worked off in one go."""
MAX_DERP_FRAMES_PER_TURN: Final = 64
"""Frames of a relay's stream that are worked off before others run; 16 packets of one destination and size in a row count as one."""
MAX_DERP_PING: Final = 1000
"""Bytes of a ping."""
MAX_DERP_CONNECTIONS_OF_KEY: Final = 8
"""Connections of one key."""
DERP_HANDSHAKE_RATE: Final = 500.0
"""Handshakes that may begin in a second, of all clients together."""
DERP_HANDSHAKE_BURST: Final = 2000.0
"""And at once: a relay that restarts is met by everybody."""
DERP_KNOWN_HANDSHAKE_RATE: Final = 250.0
"""Beside those, per second: of clients from addresses from which a key was admitted lately."""
DERP_KNOWN_HANDSHAKE_BURST: Final = 1000.0
"""And at once."""
DERP_SOURCE_HANDSHAKE_RATE: Final = 10.0
"""Handshakes per second from one address, of IPv6 a /64, that do not end in an admitted key."""
DERP_SOURCE_HANDSHAKE_BURST: Final = 256.0
"""And at once."""
DERP_SITE_HANDSHAKE_RATE: Final = 40.0
"""Such handshakes per second from one IPv6 /48, whichever of its networks they come from."""
DERP_SITE_HANDSHAKE_BURST: Final = 1024.0
"""And at once."""
DERP_HANDSHAKES_PER_SOURCE: Final = 256
"""Handshakes under way from one address, of IPv6 a /64."""
DERP_HANDSHAKES_PER_SITE: Final = 1024
"""And from one IPv6 /48."""
DERP_RETURN_INTERVAL: Final = 10.0
"""Seconds after which a key that comes back is not counted against its address again."""
MAX_DERP_SOURCES: Final = 65_536
"""Addresses whose handshakes are remembered, and as many /48."""
MAX_DERP_KNOWN_KEYS: Final = 65_536
"""Admitted keys whose address is remembered."""
DERP_QUEUE_PACKETS: Final = 512
"""Packets that wait for one client."""
DERP_QUEUE_BYTES: Final = 2 << 20
"""Bytes of them."""
DERP_DISCO_QUEUE_PACKETS: Final = 64
"""Discovery packets that wait for one client, beside the others."""
DERP_DISCO_QUEUE_BYTES: Final = 256 * 1024
"""Bytes of them."""
MAX_DERP_HEARD: Final = 4096
"""Clients that one client is told the departure of."""
DERP_NOT_HERE_RATE: Final = 1.0
"""Answers per second, in the long run, that somebody is not here."""
DERP_NOT_HERE_BURST: Final = 3.0
"""And at once."""
DERP_HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for the greeting to leave, and again for the client's to come."""
DERP_ADMIT_TIMEOUT: Final = 5.0
"""Seconds for the answer whether a client is served."""
DERP_WRITE_TIMEOUT: Final = 2.0
"""Seconds that a client may take nothing; its packets are stale anyway."""
DERP_REFUSAL_TIMEOUT: Final = 1.0
"""Seconds for a refused client to take the refusal."""

# What is shown to people

MAX_SHOWN_TEXT: Final = 4096
"""Letters of a line that somebody else has written, on a terminal or in a log."""
MAX_SHOWN_CELL: Final = 256
"""Letters of a cell of a table that is not its row's last."""

# STUN

STUN_LARGER_RATE: Final = 10.0
"""Answers per second, in the long run, that are larger than their requests and go to one address, of IPv6 to a /64."""
STUN_LARGER_BURST: Final = 50
"""And at once."""
STUN_ALL_LARGER_RATE: Final = 1000.0
"""Such answers per second, in the long run, to everybody together."""
STUN_ALL_LARGER_BURST: Final = 2000
"""And at once."""
MAX_STUN_SOURCES: Final = 4096
"""Addresses whose such answers are remembered; the one that asked longest ago goes for one more."""

# Browsers: sign-in, web apps, terminals

MAX_FORM: Final = 8192
"""Bytes of a form."""
MAX_FORM_FIELDS: Final = 16
"""Fields of a form."""
FORM_TIMEOUT: Final = 10.0
"""Seconds for a form to come."""
PASS_LIFETIME: Final = 12 * 3600.0
"""Seconds that a browser is signed in to an app's own host; then it is handed over again."""
BROWSER_SESSION_LIFETIME: Final = 12 * 3600.0
"""Seconds that a browser is signed in."""
TICKET_LIFETIME: Final = 30.0
"""Seconds from the server's page to an app's own host."""
MAX_TICKETS: Final = 4096
"""Browsers that are on that way; the oldest goes for one more."""
MAX_APP_GRANTS: Final = 1024
"""Wishes for apps whose grants are remembered."""
MAX_APP_STREAMS: Final = 256
"""Requests and WebSockets that one person may have open to apps, whatever their sessions."""
MAX_APP_STREAMS_OF_WORKSPACE: Final = 144
"""Requests and WebSockets that may be open to the apps of one workspace; a newcomer takes the newest place of whoever has most."""
MAX_APP_STREAMS_OF_WORKSPACE_EACH: Final = 128
"""Of them, of one person; all who are not signed in count as one."""
MAX_APP_HEAD: Final = 64 * 1024
"""Bytes of the head of an app's answer."""
MAX_APP_INTERIM: Final = 16
"""Answers of 1xx that an app may give before its answer."""
APP_WEBSOCKET_TIMEOUT: Final = 30.0
"""Seconds for an app to open a WebSocket."""
MAX_APP_REFUSAL: Final = 64 * 1024
"""Bytes of what an app says instead of opening a WebSocket."""
APP_WEBSOCKET_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the end of an app's WebSocket."""
APP_IDLE_TIMEOUT: Final = 3.0
"""Seconds that a connection to an app is kept without a request."""
MAX_APP_IDLE: Final = 256
"""Connections to apps that are kept so."""
MAX_APP_IDLE_PER_ROUTE: Final = 8
"""Of them, to one port of one workspace."""
MAX_APP_IDLE_PER_WORKSPACE: Final = 24
"""Of them, to one workspace."""
MAX_APP_CARRIED: Final = 16 * 1024 * 1024
"""Bytes of bodies after which a connection to an app is not kept."""
MAX_TERMINAL_BODY: Final = 16_384
"""Bytes of a frame of a terminal."""
MAX_TERMINAL_SIDE: Final = 4096
"""Rows or columns that a screen may have."""
TERMINAL_WINDOW: Final = 128 * 1024
"""Bytes of output that may be under way to a browser."""
MAX_TERMINALS: Final = 64
"""Shells of one workspace."""
MAX_TERMINALS_PER_PEER: Final = 16
"""Shells of one machine that opened them."""
MAX_TERMINALS_PER_PERSON: Final = 32
"""Shells of one person, whichever of their machines opened them; the server, with all browsers, counts as one."""
TERMINALS_RESERVED: Final = 16
"""Shells, of all, that only the workspace's owner may open."""
TERMINAL_DETACHED_LIFETIME: Final = 3600.0
"""Seconds that a shell goes on with nobody attached."""
MAX_TERMINAL_GRACE: Final = 60.0
"""Seconds that a shell goes on, at most, whose owner may not come any more."""
MAX_TERMINALS_HELD: Final = 4096
"""Shells by browser that the server remembers."""
TERMINAL_BRIDGE_OPEN_TIMEOUT: Final = 10.0
"""Seconds for a browser to say which shell it wants."""
TERMINAL_BROWSER_SILENCE_TIMEOUT: Final = 30.0
"""Seconds without a message after which a browser is taken for gone."""
TERMINAL_SEND_TIMEOUT: Final = 30.0
"""Seconds that a browser may take nothing."""
TERMINAL_FAREWELL_TIMEOUT: Final = 1.0
"""Seconds for the last words to a browser."""
TERMINAL_OPEN_TIMEOUT: Final = 10.0
"""Seconds for a client to say which shell it wants."""
TERMINAL_SILENCE_TIMEOUT: Final = 45.0
"""Seconds without a frame after which a client is taken for gone."""
MAX_TERMINALS_ENDING: Final = 16
"""Workspaces that are asked at once to end shells."""
TERMINAL_END_TIMEOUT: Final = 10.0
"""Seconds that it may take to end a shell that somebody left behind."""
TERMINAL_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the end of a browser's WebSocket."""
