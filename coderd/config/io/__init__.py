"""Shells of configuration.

file    the configuration file's text
token   a token out of a file, stdin or a prompt
node    ``NodeConfig`` out of all sources: looks users up, reads the token
log     where log lines go
"""
