"""Opens a session: makes its tunnel, its router and its link to the server, over one TUN device."""

import os
from collections.abc import Callable

from coderd.config.node import NodeConfig
from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.server_state import ServerState
from coderd.daemon.identity import Identity
from coderd.daemon.session import Parts, Session
from coderd.daemon.state import StateStore
from coderd.engine.io.tunnel import Tunnel
from coderd.engine.node import CAPABILITIES
from coderd.model.netmap import Capability, NetMap
from coderd.tun.io.device import TunDevice
from coderd.tun.io.router import Router


def open_session(identity: Identity, tun: TunDevice, config: NodeConfig, store: StateStore) -> Session:
    """Opens a session that does not run yet.

    Args:
        identity: the identity to join as.
        tun: the open device, which outlives the session.
        config: the node's options.
        store: the saved state.

    Raises:
        UserError: no UDP socket can be opened.
    """
    tunnel = Tunnel(
        identity.node_key,
        tun,
        mtu=config.mtu,
        listen_port=config.listen_port,
        tai64n_mark=store.current.timestamp_floor(),
        plays_birthday=config.plays_birthday,
    )

    def connect(
        last: NetMap | None, on_netmap: Callable[[NetMap], None], on_state: Callable[[ServerState], None]
    ) -> CoordinationClient:
        return CoordinationClient(
            identity.url,
            identity.token,
            node_key=identity.node_key,
            disco_key=tunnel.disco_key,
            generation=tunnel.generation,
            rng=os.urandom,
            capabilities=(*CAPABILITIES, *((Capability.BIRTHDAY,) if config.plays_birthday else ())),
            kind=identity.kind,
            netmap=last,
            resume_token=store.current.resume_token or None,
            on_netmap=on_netmap,
            on_state=on_state,
        )

    return Session(identity, config, store, Parts(tun.name, Router(tun.name), tunnel, connect))
