"""Relays: admission of node keys by the server, and the standalone relay (``coderd derp``).

verify    the server's end: answers /derp/verify
verifier  the relay's end: asks /derp/verify about each key that a client has proven
run       the process
"""
