"""Quotas of one user: most workspaces, devices, tokens and apps. Pure."""

from dataclasses import dataclass

from coderd.model import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Quotas of one user, checked at creation: lowering one deletes nothing."""

    workspaces: int = limits.MAX_WORKSPACES_PER_USER
    devices: int = limits.MAX_DEVICES_PER_USER
    tokens: int = limits.MAX_TOKENS_PER_USER
    """Sessions, browsers' among them, and join keys.

    Not the tokens of workspaces and devices, of which each has one.
    """
    apps: int = limits.MAX_APPS_PER_USER
    """Web apps that were set, of all workspaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much of each kind one user has."""

    workspaces: int
    devices: int
    tokens: int
    apps: int
    shares: int
    """Given and offered to others."""
