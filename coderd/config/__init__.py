"""Text from flags, the environment and files -> frozen values.

url      the server's URL: an origin, and the pin of its certificate
sources  one setting out of flag > environment > file
server   ``ServerConfig``: everything that ``coderd server`` was told
io       the file, and where log lines go: shell
"""
