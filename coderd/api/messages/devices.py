"""Devices of users."""

from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec

from coderd.api.messages.message import ApiMessage, ListPage, NameText
from coderd.model import limits

KeyText: TypeAlias = Annotated[str, msgspec.Meta(max_length=80)]


class EnrolDevice(ApiMessage, frozen=True):
    """Request of a machine to become a device of the caller's; the same key enrols the same device again."""

    name: NameText
    """What the machine calls itself."""
    node_key: KeyText
    device_token: Annotated[str, msgspec.Meta(max_length=limits.MAX_TOKEN)] | None = None
    """The token that this device has, if it is enrolled: a token of scope enrol needs it then."""


class DeviceEnrolled(ApiMessage, frozen=True):
    """The device with the name that it was given, and its token, shown only once."""

    id: UUID
    name: str
    owner: str
    address: str
    token: str
    is_waiting: bool = False
    """Whether it may not connect until an admin approves it."""


class DeviceInfo(ApiMessage, frozen=True):
    """A device."""

    id: UUID
    name: str
    owner: str
    address: str
    online: bool
    created_at: float
    is_waiting: bool = False
    """Whether it may not connect until an admin approves it."""
    expires_at: float | None = None
    """When it has to sign in again, in wall-clock seconds; null: never."""


class DeviceList(ListPage, frozen=True, kw_only=True):
    """Devices by name."""

    devices: list[DeviceInfo]


class ChangeDevice(ApiMessage, frozen=True):
    """New name of a device."""

    name: NameText
