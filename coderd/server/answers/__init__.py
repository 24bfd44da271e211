"""The API's answers: one handler for each line of the table of routes, asked only by those who may ask.

reaching     what a path's key means, and whether it lies within the rule's reach
users        users and sessions
workspaces   workspaces and their sharing
devices      devices
tokens       tokens, and joining with a join key
watching     health, audit log, openings, counters, reflection, the OpenAPI document
table        all of them
"""
