"""The API's handlers: one for each line of the table of routes, called only for callers whom the table admits.

reaching     what a path's key means, and whether it lies within the rule's reach
users        users and sessions
workspaces   workspaces and their sharing
devices      devices
tokens       tokens, and joining with a join key
watching     health, audit log, openings, counters, reflection, the OpenAPI document
table        all of them
"""
