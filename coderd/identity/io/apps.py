"""Web apps in SQL. Every method blocks: call it in a thread."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from coderd.identity.apps import App, AppShare
from coderd.identity.effects import NOTHING, Change, Effects
from coderd.identity.io.database import Database
from coderd.identity.io.lineage import write_as
from coderd.identity.io.rows import Parameters, Row, count_apps, get_node, insert_within, record
from coderd.identity.people import SERVER, Actor, Node, NotFound, QuotaReached
from coderd.identity.schema import apps


class Apps:
    """All web apps of one server that have been set."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, workspace_id: UUID, name: str) -> App | None:
        """Returns one app, None for a name that is not set."""
        query = sa.select(apps).where(apps.c.workspace_id == workspace_id, apps.c.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _app(row) if row is not None else None

    def of(self, workspace_id: UUID) -> list[App]:
        """Lists all apps of a workspace, by name."""
        query = sa.select(apps).where(apps.c.workspace_id == workspace_id).order_by(apps.c.name)
        with self._database.read() as connection:
            return [_app(row) for row in connection.execute(query)]

    def set(self, workspace: Node, app: App, *, by: Actor = SERVER) -> Change[App]:
        """Creates or changes an app; shares that follow the apps change with it.

        Raises NotFound where the workspace has been deleted meanwhile, QuotaReached, or what ``write_as``
        does.
        """
        key = {"workspace_id": workspace.node_id, "name": app.name}
        values = {"port": app.port, "share": app.share.value}
        with write_as(self._database, by, on=workspace.owner.user_id) as connection:
            known = connection.execute(apps.update().filter_by(**key).values(values)).rowcount == 1
            if not known:
                self._insert(connection, workspace, {**key, **values})
            detail = f"{app.name} is port {app.port}, for: {app.share.value}"
            record(connection, self._database.now(), by, "app.set", workspace.full_name, detail)
            return Change(app, _effects(connection, workspace))

    def _insert(self, connection: Connection, workspace: Node, values: Parameters) -> None:
        owner, most = workspace.owner, self._database.quotas.apps
        try:
            is_within = insert_within(connection, apps, values, count_apps(owner.user_id), most)
        except IntegrityError:
            raise NotFound(f"there is no workspace {workspace.full_name}") from None
        if not is_within:
            raise QuotaReached(owner.name, "apps", most)

    def delete(self, workspace: Node, name: str, *, by: Actor = SERVER) -> Change[None]:
        """Forgets an app: a slug then leads nowhere, a port is the owner's alone.

        Raises NotFound, or what ``write_as`` does.
        """
        with write_as(self._database, by, on=workspace.owner.user_id) as connection:
            gone = connection.execute(apps.delete().filter_by(workspace_id=workspace.node_id, name=name))
            if gone.rowcount != 1:
                raise NotFound(f"{workspace.full_name} has no app {name}")
            record(connection, self._database.now(), by, "app.delete", workspace.full_name, name)
            return Change(None, _effects(connection, workspace))


def _effects(connection: Connection, workspace: Node) -> Effects:
    """A share that follows the apps opens other ports now."""
    node = get_node(connection, workspace.owner, workspace.kind, workspace.node_id)
    return Effects(amended=(node,)) if node.shares else NOTHING


def _app(row: Row) -> App:
    return App(row.name, row.port, AppShare(row.share))
