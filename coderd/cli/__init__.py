"""The two commands: ``coderd`` runs things, ``coderctl`` asks running things.

Imports late, so that asking is quick.

coderd, coderctl   the entry points: which commands there are
shell              runs an app: errors to sentences, and their exit codes
apps               how both make their apps: help out of docstrings
options            options that several commands share
values             durations, forwards, sizes: text to values and back
node_config        what coderd run is told
session            who is signed in to which server, and tokens by file, stdin or prompt
status, status_text, ping, speedtest, forward, nc, join, workspaces, debug
                   coderctl's commands; peer_stream: a TCP stream through a peer's node API
"""
