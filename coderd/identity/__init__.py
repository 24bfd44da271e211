"""Identity: who there is, by what token they say so, and who may meet whom.

people    users, nodes (devices and workspaces), names, and what the store refuses
tokens    bearer tokens: their kinds and scopes, how they are made and hashed
policy    which pairs of nodes get a tunnel, by which paths; who manages whom
attempts  how many unknown tokens may be tried
apps      web apps of workspaces, and whom they are for
schema    the tables, shared by SQLite and PostgreSQL
io        store (users, nodes, tokens, audit in blocking SQL: call it in a thread), migrations: shells
"""
