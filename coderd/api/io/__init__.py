"""Shells of the API.

routes    the server's end: who may do what, and bounds on requests
exchange  the client's end of one request and its answer
client    a method for each operation, blocking, for commands
machine   what a daemon's tasks ask
"""
