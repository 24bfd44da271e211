"""All answers, by operation."""

from coderd.api.io.routes import Handler
from coderd.apps.address import Wildcard
from coderd.config.sharing import SharingOptions
from coderd.server.answers.apps import AppAnswers
from coderd.server.answers.devices import DeviceAnswers
from coderd.server.answers.shares import ShareAnswers
from coderd.server.answers.tokens import TokenAnswers
from coderd.server.answers.users import UserAnswers
from coderd.server.answers.watching import WatchingAnswers
from coderd.server.answers.workspaces import WorkspaceAnswers
from coderd.server.directory import Directory


def all_handlers(
    directory: Directory,
    *,
    version: str,
    wildcard: Wildcard | None = None,
    sharing: SharingOptions = SharingOptions(),  # noqa: B008, it is frozen
) -> dict[str, Handler]:
    """The whole API of one server; ``wildcard`` are the hosts of its web apps, ``sharing`` how users may share."""
    return {
        **UserAnswers(directory, sharing.max_given).handlers(),
        **WorkspaceAnswers(directory).handlers(),
        **ShareAnswers(directory, sharing).handlers(),
        **AppAnswers(directory, wildcard).handlers(),
        **DeviceAnswers(directory).handlers(),
        **TokenAnswers(directory).handlers(),
        **WatchingAnswers(directory, version).handlers(),
    }
