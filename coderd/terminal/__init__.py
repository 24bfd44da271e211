"""The workspace's terminal service.

A shell on a PTY, kept while no client is attached, resumed without losing or repeating a byte.

frames      what a terminal and its client say to each other, byte by byte            pure
scrollback  the newest output, each byte with its place in all that the shell wrote   pure
sessions    shells by owner: how many at most, who is attached, until when            pure
account     the user as whom shells run                                                pure
io/         shell: a PTY and the process on it; starting: where it comes from; login: what becomes the user's shell;
            login_service: what systemd starts as the user; service: frames to shells

One task reads each PTY into its scrollback; whoever is attached is sent what lies behind the place that they
have seen. So a client that comes back names that place and goes on there, and a browser that knows nothing
names 0 and gets all that is kept. A client that reads slowly slows the shell down; one that is gone does not:
its shell goes on into the scrollback, and ends when nobody has come for it in time.
"""
