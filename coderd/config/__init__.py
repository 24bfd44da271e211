"""Text from flags, the environment and files -> frozen values. Pure: whoever calls reads the files.

url      the server's URL, reduced to an origin
sources  one setting out of flag > environment > file
server   ``ServerConfig``: everything that ``coderd server`` was told
"""
