"""Sockets of the speed test.

``streams``, ``client`` and ``worker`` block, without trio; ``server`` belongs to the daemon.
"""
