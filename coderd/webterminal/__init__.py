"""Terminals by browser.

The server's site, which connects a browser's WebSocket to a workspace's terminal service.

messages     messages of the WebSocket; sealed ids of shells                  pure
held_shells  the shells of browsers that the server knows of                  pure
page         the page with a terminal in it, and its Content-Security-Policy  pure
io/          terminal_site: pages, sign-in, and the WebSocket; bridge: one WebSocket and one workspace stream, both ways

To a workspace all browsers are one peer, the server, so the server decides by user who may open a terminal
(docs/terminal.md).
"""
