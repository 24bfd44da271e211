"""coderd: a private network that joins people to their remote development machines.

ARCHITECTURE.md at the project's root is the map of the packages below.
"""

__version__ = "0.1.0"
