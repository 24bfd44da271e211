"""Web apps: services in workspaces, used by browser through the server.

address   where an app is found: /@owner/workspace/apps/APP/ and, with a wildcard, APP--workspace--owner.apps.example.com
access    who may open an app, and which requests of a browser a cookie counts for
headers   what of a request and of an answer passes between browser and app, and what stays
passes    the app host's own cookie, sealed, which stands for a session without being one
io        the gate (address, person, right), sign-in, the HTTP and WebSocket ways through, as an ASGI app: shells

A browser's session with the server never leaves the server: neither cookie nor token of ours is ever sent to
an app, and an app on a host of its own has an origin of its own.
"""
