"""TCP ports of a server: bound before anything else, given TLS once the certificates are loaded."""

from typing import Self

import structlog
import trio

from coderd.http.server import Listener
from coderd.http.tls import ServerTls, TlsListener
from coderd.model.addresses import AddrPort
from coderd.model.errors import UserError
from coderd.server.listen import bound_address, open_listener
from coderd.server.reloads import Reloads

log = structlog.get_logger(__name__)


class Ports:
    """Listeners at the addresses for plain HTTP and for TLS. Raises UserError if one cannot be bound.

    Args:
        http_address: for plain HTTP; None: not served.
        tls_address: for TLS; None: not served.
    """

    def __init__(self, http_address: AddrPort | None, tls_address: AddrPort | None) -> None:
        self._opened: list[trio.SocketListener] = []
        try:
            self._plain = [self._open(http_address)] if http_address is not None else []
            self._encrypted = [self._open(tls_address)] if tls_address is not None else []
        except BaseException:
            self.close()
            raise

    def _open(self, address: AddrPort) -> trio.SocketListener:
        listener = open_listener(address)
        self._opened.append(listener)
        return listener

    @property
    def address(self) -> AddrPort:
        """Address for clients: that of the TLS port if there is one."""
        return bound_address([*self._encrypted, *self._plain][0])

    def listeners(self, tls: ServerTls | None) -> list[Listener]:
        """Returns the listeners for ``serve_http``."""
        assert tls is not None or not self._encrypted
        encrypted = [TlsListener(listener, tls.context) for listener in self._encrypted if tls is not None]
        return [*self._plain, *encrypted]

    def close(self) -> None:
        """Closes all of the listeners."""
        for listener in self._opened:
            listener.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def follow_reloads(tls: ServerTls, reloads: Reloads) -> None:
    """Loads the certificates again at each reload, for ever.

    Logs those that cannot be used and keeps the ones in force.
    """
    n_seen = reloads.n_asked
    while True:
        n_seen = await reloads.wait(n_seen)
        try:
            tls.reload()
        except UserError as error:
            log.error("certificate_unusable", reason=error.message)
        else:
            log.info("certificates_loaded")
