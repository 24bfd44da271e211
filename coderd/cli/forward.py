"""``coderctl port-forward``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coderd.cli.options import SOCKET, Socket, Workspace
from coderd.cli.peer_stream import unreachable
from coderd.cli.say import note
from coderd.cli.shell import show_error
from coderd.cli.values import Forward, parse_forwards
from coderd.control.io.client import ControlClient
from coderd.control.messages import PORT_FORWARD, DialParams, DialTarget
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.peerapi.message import NO_PROOF, DialRequest

if TYPE_CHECKING:
    import trio

DIAL_TIMEOUT = 15.0


def port_forward(
    workspace: Workspace,
    forwards: Annotated[
        list[str],
        typer.Argument(
            metavar="[IP:]LOCAL[:REMOTE]...", help="Where to listen, and the port in the workspace."
        ),
    ],
    socket: Socket = SOCKET,
) -> int:
    """Listen on this machine and forward each TCP connection to a port of a workspace.

    It also reaches services that listen only on the workspace's loopback. Without an address it listens on
    this machine's loopback.

    Examples:
      coderctl port-forward dev 8080
      coderctl port-forward dev 8080:80 5432
      coderctl port-forward dev 0.0.0.0:8080:80
    """
    wanted = parse_forwards(forwards)
    asks = [partial(_target, socket, DialParams(peer=workspace, port=forward.remote)) for forward in wanted]
    forwarders = [_Forwarder(forward, ask) for forward, ask in zip(wanted, asks, strict=True)]
    import trio  # late: it costs a tenth of a second, which status should not pay

    trio.run(_run, forwarders)
    return Exit.DONE


def _target(control: Path, params: DialParams) -> DialTarget:
    """Returns where to dial, and the daemon's current secret: after a restart it is another."""
    with ControlClient(control) as client:
        return client.call(PORT_FORWARD, params)


async def _run(forwarders: "list[_Forwarder]") -> None:
    import trio

    listening = [(await _listen(each.forward), each) for each in forwarders]
    async with trio.open_nursery() as nursery:
        for listeners, forwarder in listening:
            forward = forwarder.forward
            nursery.start_soon(trio.serve_listeners, forwarder.serve, listeners)
            note(
                f"Forwarding 'tcp://{forward.listens_at}' locally to 'tcp://127.0.0.1:{forward.remote}'"
                " in the workspace"
            )
        note("Ready!")


async def _listen(forward: Forward) -> "list[trio.SocketListener]":
    """Listens on the first address or raises UserError, and on the others where that works."""
    import trio

    listeners: list[trio.SocketListener] = []
    for host in forward.hosts:
        try:
            listeners += await trio.open_tcp_listeners(forward.local, host=host)
        except OSError as error:
            if not listeners:
                raise UserError(
                    f"cannot listen on {forward.listens_at}: {_reason(error)}",
                    hint="Choose another local port, as in 8081:80.",
                    code="cannot_listen",
                ) from None
    return listeners


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error.__cause__ is not None:
        return _reason(error.__cause__)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class _Forwarder:
    """Serves one listener's connections."""

    def __init__(self, forward: Forward, ask: Callable[[], DialTarget]) -> None:
        self.forward = forward
        self._ask = ask
        self._target = ask()

    async def serve(self, local: "trio.SocketStream") -> None:
        import trio

        from coderd.peerapi.io.splice import splice

        async with local:
            try:
                with trio.fail_after(DIAL_TIMEOUT):
                    peer = await self._open()
            except UserError as error:
                show_error("coderctl", error)
            except trio.TooSlowError:
                show_error("coderctl", unreachable(self._target.name, TimeoutError()))
            else:
                async with peer:
                    await splice(local, peer)

    async def _open(self) -> "trio.SocketStream":
        """Dials; if the daemon has restarted meanwhile, dials once more with its new secret."""
        import trio

        try:
            return await self._dial()
        except UserError as error:
            if error.code != NO_PROOF:
                raise
        self._target = await trio.to_thread.run_sync(self._ask, abandon_on_cancel=True)
        return await self._dial()

    async def _dial(self) -> "trio.SocketStream":
        import trio

        from coderd.peerapi.io.client import open_service

        request = DialRequest(port=self.forward.remote, secret=self._target.secret)
        try:
            peer = await trio.open_tcp_stream(self._target.address, self._target.api_port)
            await open_service(peer, request)
        except OSError as error:
            raise unreachable(self._target.name, ConnectionError(_reason(error))) from None
        except MalformedPacket:
            raise unreachable(self._target.name, ConnectionError("its answer is invalid")) from None
        return peer
