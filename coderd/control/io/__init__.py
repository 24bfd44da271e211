"""Both ends of the control socket.

``server`` and ``listening`` are the daemon's (trio), ``client`` is the CLI's (blocking).
"""
