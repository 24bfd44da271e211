"""A relay: admission of node keys by the server, and the relay that runs alone (``coderd derp``).

verify    the server's end: answers /derp/verify
verifier  the relay's end: asks /derp/verify for each key that was proved to it
run       the process
"""
