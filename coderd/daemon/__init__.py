"""The node's process: one identity active at a time, and a control socket that answers for it.

process    the process: locks the state, opens the TUN, serves the control socket, ends on signals
node       which identity is active, and its session
session    one identity joined to its network: tunnel, addresses, routes, services
opening    a session's real parts: tunnel, router, link to the server
state      node.json: keys, credentials, the last NetMap; locked and replaced atomically
joining    exchanges a join key for a workspace's token
kind       device or workspace, and which tokens fit; pure
authority  expires a workspace's users when the server is silent for too long; pure
hosting    which peers a workspace serves, by the newest NetMap; pure
services   what a workspace serves inside the tunnel: speed test, node API, terminals
status     a snapshot of all of it, for ``coderctl status``
verbs      the methods of the control socket
diagnosis  netcheck, why, ping, speedtest and derp-map --check
"""
