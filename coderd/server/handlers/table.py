"""Assembly of all of the API's handlers."""

from coderd.api.io.routes import Handler
from coderd.apps.address import Wildcard
from coderd.config.sharing import SharingOptions
from coderd.server.directory import Directory
from coderd.server.handlers.apps import AppHandlers
from coderd.server.handlers.devices import DeviceHandlers
from coderd.server.handlers.shares import ShareHandlers
from coderd.server.handlers.tokens import TokenHandlers
from coderd.server.handlers.users import UserHandlers
from coderd.server.handlers.watching import WatchingHandlers
from coderd.server.handlers.workspaces import WorkspaceHandlers


def all_handlers(
    directory: Directory,
    *,
    version: str,
    wildcard: Wildcard | None = None,
    sharing: SharingOptions = SharingOptions(),  # noqa: B008, it is frozen
) -> dict[str, Handler]:
    """Returns all handlers of the API by operation.

    Args:
        directory: the identities and connected nodes.
        version: the program's version.
        wildcard: the hosts of the server's web apps; None: they have none.
        sharing: how users may share workspaces.
    """
    return {
        **UserHandlers(directory, sharing.max_given).handlers(),
        **WorkspaceHandlers(directory).handlers(),
        **ShareHandlers(directory, sharing).handlers(),
        **AppHandlers(directory, wildcard).handlers(),
        **DeviceHandlers(directory).handlers(),
        **TokenHandlers(directory).handlers(),
        **WatchingHandlers(directory, version).handlers(),
    }
