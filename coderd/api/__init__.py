"""The HTTP API: what people and their machines ask of the server outside the coordination link.

messages/  requests and answers, one schema for both ends
io/        routes (server; who may do what); client (for commands), machine (for the daemon): shells
"""
