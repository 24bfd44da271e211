"""The node's process: one identity at work, answered for on the control socket.

config    what the command line and files said, frozen
state     node.json: keys, credentials, the last NetMap; locked and written atomically
session   one identity joined to its network: engine, relays, coordination, services
node      the process: waits for an identity, runs sessions, ends on signals
control   the verbs of the control socket
"""
