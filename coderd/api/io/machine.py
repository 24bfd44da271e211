"""What a machine's daemon asks of the API, from its tasks: to join, to be removed, to be seen."""

import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio

from coderd.api.io.client import ApiClient
from coderd.api.messages import DeviceEnrolled, Reflection, WorkspaceCreated
from coderd.model.keys import NodePublic

T = TypeVar("T")


async def enrol_device(
    url: str,
    token: str,
    *,
    name: str,
    node_key: NodePublic,
    own_token: str = "",
    tls: ssl.SSLContext | None = None,
) -> DeviceEnrolled:
    """Enrols this machine as a device of the session token's user.

    Args:
        url: the server's access URL.
        token: the user's session token.
        name: what the machine calls itself.
        node_key: the machine's.
        own_token: the device token that it has already; empty for none.
        tls: trust for https; the URL's when None.

    Raises:
        UserError: Exit.REFUSED for a bad token, Exit.UNREACHABLE for a server that does not answer,
            Exit.FAILED if the key belongs to another identity.
    """
    client = ApiClient(url, token, tls=tls)
    return await _in_thread(partial(client.enrol_device, name, node_key, own_token))


async def remove_device(
    url: str, token: str, device_id: UUID | str, *, tls: ssl.SSLContext | None = None
) -> None:
    """Deletes a device at the server; its own device token suffices. Raises UserError as ``enrol_device``."""
    client = ApiClient(url, token, tls=tls)
    await _in_thread(partial(client.delete_device, str(device_id)))


async def ask_reflection(url: str, token: str, *, tls: ssl.SSLContext | None = None) -> Reflection:
    """Asks the server how it sees a request of this machine. Raises UserError as ``enrol_device``."""
    return await _in_thread(ApiClient(url, token, tls=tls).reflection)


async def join_workspace(
    url: str, key: str, *, name: str, tls: ssl.SSLContext | None = None
) -> WorkspaceCreated:
    """Exchanges a join key for a workspace's token. Raises UserError as ``enrol_device``."""
    client = ApiClient(url, key, tls=tls)
    return await _in_thread(partial(client.join, name))


async def _in_thread(question: Callable[[], T]) -> T:
    """Asks in a thread, left behind on cancellation: a daemon asks too rarely for a second client."""
    return await trio.to_thread.run_sync(question, abandon_on_cancel=True)
