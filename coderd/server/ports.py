"""A server's TCP ports: taken before anything else is done, given TLS once the certificates are at hand."""

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
    """Listens at both addresses, as far as there are two. Raises UserError where one cannot be had.

    Args:
        http_address: for plain HTTP, None for nowhere.
        tls_address: for TLS, None for nowhere.
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
        """Where clients are meant to come: the TLS port if there is one."""
        return bound_address([*self._encrypted, *self._plain][0])

    def listeners(self, tls: ServerTls | None) -> list[Listener]:
        """For ``serve_http``."""
        assert tls is not None or not self._encrypted
        encrypted = [TlsListener(listener, tls.context) for listener in self._encrypted if tls is not None]
        return [*self._plain, *encrypted]

    def close(self) -> None:
        """Gives all of them up."""
        for listener in self._opened:
            listener.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def follow_reloads(tls: ServerTls, reloads: Reloads) -> None:
    """Reads the certificates again whenever that is asked for; what cannot be used is logged and changes nothing."""
    n_seen = reloads.n_asked
    while True:
        n_seen = await reloads.wait(n_seen)
        try:
            tls.reload()
        except UserError as error:
            log.error("certificate_unusable", reason=error.message)
        else:
            log.info("certificates_loaded")
