"""Runs the node's process: locks the state, opens the TUN, serves the control socket, ends on signals."""

import signal
from contextlib import closing

import structlog
import trio

from coderd.config.io.log import configure_logging
from coderd.config.node import NodeConfig
from coderd.control.io.server import serve_control
from coderd.daemon.node import Node
from coderd.daemon.opening import open_session
from coderd.daemon.state import StateStore
from coderd.daemon.verbs import Verbs
from coderd.engine.io.clock import BootClock, run_boot_timer
from coderd.model.errors import UserError, first_user_error
from coderd.process.ending import ending_signals
from coderd.process.supervisor import supervised
from coderd.process.turns import TurnWatch
from coderd.tun.io.device import TunDevice
from coderd.tun.io.local_users import only_users

log = structlog.get_logger()


def run_node(config: NodeConfig) -> None:
    """Runs one node until SIGTERM or SIGINT.

    Raises:
        UserError: the node cannot start or go on, and a person can change that: the message and its hint say
            how.
    """
    configure_logging()
    refusal: UserError | None = None
    try:
        trio.run(_main, config, clock=BootClock())
    except* UserError as group:
        refusal = first_user_error(group)  # raised inside except* it would be in a group again
    if refusal is not None:
        raise refusal


async def _main(config: NodeConfig) -> None:
    with StateStore(config.state_dir) as store, closing(TunDevice.open(config.interface)) as tun:
        node = Node(config, store, tun.name, lambda identity: open_session(identity, tun, config, store))
        with TurnWatch(node.counters):
            async with only_users(tun.name, config.local_users):
                await _serve(config, node, tun)


async def _serve(config: NodeConfig, node: Node, tun: TunDevice) -> None:
    async with supervised() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(run_boot_timer)
        nursery.start_soon(_stop_on_signal, node, nursery.cancel_scope)
        await nursery.start(
            lambda task_status: serve_control(
                config.socket_path,
                Verbs(node),
                operator_uid=config.operator_uid,
                counters=node.counters,
                task_status=task_status,
            )
        )
        supervisor.ready()
        log.info("ready", interface=tun.name)
        await node.run()


async def _stop_on_signal(node: Node, scope: trio.CancelScope) -> None:
    with ending_signals() as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            await node.leave()
            scope.cancel()
            return
