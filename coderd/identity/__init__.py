"""Identity: who there is, by what token they say so, and who may meet whom.

people   users, nodes (devices and workspaces), names, and what the store refuses
tokens   bearer tokens: their kinds, how they are made and hashed
policy   which pairs of nodes get a tunnel
schema   the tables, shared by SQLite and PostgreSQL
io       store (blocking SQL: call it in a thread), migrations: shells, import them by their path
"""
