"""The node's process: one identity at work, answered for on the control socket.

config    what the command line and files said, frozen
state     node.json: keys, credentials, the last NetMap; locked and written atomically
session   one identity joined to its network: engine, relays, coordination, services
opening   a session's real parts: tunnel, router, link to the server
services  what a workspace serves to its users inside the tunnel
node      which identity is at work, and its session
status    a snapshot of all of it
verbs     the methods of the control socket
measure   pings and speed tests, told event by event
process   the process: locks, opens, serves, ends on signals
plain     another process: `coderd wireguard`, configured by wg; background: how it gets there
"""
