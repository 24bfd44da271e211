"""Handlers of the API, one for each line of the table of routes.

Called only for callers that the table admits.
reaching     the node or user that a path's key names, if the route's rule lets the caller reach it
describing   workspaces, shares and connections as API messages
users        users and sessions
workspaces   workspaces
shares       sharing of workspaces
apps         web apps of workspaces
devices      devices
tokens       tokens, and joining with a join key
paths        paths between nodes, and relays
watching     health, audit log, openings, counters, reflection, the OpenAPI document
table        all of them
"""
