"""Text from flags, the environment and files -> frozen values.

sources      a ``Setting``, one line of a command's table; its value out of flag > environment > file
kinds        what a setting's text means: numbers, ports, durations, paths, addresses
node         the table of ``coderd run`` and ``NodeConfig``
server       the table of ``coderd server`` and ``ServerConfig``, put together from tls, proxies, derp, apps, sharing,
             quotas and lifetimes
relay        the table of ``coderd derp`` and ``RelayConfig``
environment  the other variables, and names that are probably mistakes
url          the server's URL: an origin, and what it is trusted by
http_url     any other page's URL
derp_map     an operator's relay map: parsed strictly, each fault named
io           the file, the token, users, and where log lines go: shell
"""
