"""What every long-running process of ours needs, whichever it is: node, server, relay, plain WireGuard.

ending      SIGTERM and SIGINT, and the process's end though its loop takes no note of them
turns       how long the loop stands still
supervisor  systemd: ready, alive, stopping
"""
