"""Text from flags, the environment and files -> frozen values.

sources    one setting out of flag > environment > file
url        the server's URL: an origin, and why it is trusted
http_url   any other page's URL
server     ``ServerConfig``: everything that ``coderd server`` was told, with tls, derp and apps for parts of it
relay      ``RelayConfig``: the same for ``coderd derp``
derp_map   an operator's relay map: read and refused by name
io         the file, and where log lines go: shell
"""
