"""The workspace's terminal service.

A shell on a PTY, kept while no client is attached, resumed without losing or repeating a byte.

frames      the messages of a terminal and its client, as bytes                        pure
scrollback  the newest output, by its place in all that the shell wrote                pure
sessions    shells by owner: limits, attached clients, expiry                          pure
io/         shell: a PTY and the process on it; starting: how a shell is started; login: the process that
            becomes the user's shell; login_service: what systemd starts as the user; service: frames, shells

One task reads each PTY into its scrollback; the attached client is sent the output behind the place that it
has seen. A client that reconnects names that place and goes on there; a browser without any output names 0
and gets all that is kept. A client that reads slowly slows the shell down. While no client is attached, the
shell writes on into the scrollback; it is ended if no client attaches again in time.
"""
