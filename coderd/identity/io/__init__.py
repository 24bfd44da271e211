"""Shells of identity: ``store`` (blocking SQL) and its ``migrations``."""
