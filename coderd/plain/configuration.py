"""Applies what ``wg`` sets to a plain WireGuard's device and endpoints, and describes both for ``get``.

Pure.

The port and the firewall mark are not applied here, as they belong to the sockets: their owner applies them
first, because that may fail. What is applied here cannot fail.
"""

from collections.abc import Mapping

from coderd.model.keys import NodePublic
from coderd.plain.paths import PlainPaths
from coderd.wireguard import Device
from coderd.wireguard.status import Network
from coderd.wireguard.uapi import NO_KEY, Change, Description, PeerChange, PeerDescription


def apply(change: Change, device: Device, paths: PlainPaths, now: float) -> None:
    """Applies a ``set`` in the order in which it was written.

    Leaves out port and mark, which belong to the sockets.
    """
    if change.private_key is not None or change.is_key_removal:
        device.set_private_key(change.private_key, now)
    if change.replaces_peers:
        for status in device.status(now).peers:
            _remove(status.key, device, paths, now)
    own = device.public_key
    if own is not None:
        paths.remove_peer(own)
    for peer in change.peers:
        if peer.key != own:
            _apply_peer(peer, device, paths, now)


def describe(
    device: Device,
    paths: PlainPaths,
    now: float,
    *,
    listen_port: int,
    fwmark: int,
    handshakes: Mapping[NodePublic, float],
) -> Description:
    """Returns everything that a ``get`` reports.

    Args:
        device: the device.
        paths: its peers' endpoints.
        now: seconds.
        listen_port: bound, or to be bound when the interface is up; 0 for none.
        fwmark: 0 for none.
        handshakes: wall clock of each peer's last one.
    """
    secrets = device.secrets()
    peers = (
        PeerDescription(
            status=status,
            endpoint=paths.endpoint(status.key),
            preshared_key=secrets.preshared_keys.get(status.key, NO_KEY),
            last_handshake_at=handshakes.get(status.key) if status.last_handshake_at is not None else None,
        )
        for status in device.status(now).peers
    )
    return Description(secrets.private_key, listen_port, fwmark, tuple(peers))


def _apply_peer(change: PeerChange, device: Device, paths: PlainPaths, now: float) -> None:
    present = device.allowed_ips(change.key)
    if change.is_removal:
        _remove(change.key, device, paths, now)
        return
    if change.is_update_only and present is None:
        return
    if change.endpoint is not None:
        paths.set_endpoint(change.key, change.endpoint)
    device.set_peer(
        change.key,
        now,
        preshared_key=change.preshared_key,
        allowed_ips=_prefixes(present or (), change),
        persistent_keepalive=change.persistent_keepalive,
    )


def _prefixes(present: tuple[Network, ...], change: PeerChange) -> list[Network] | None:
    """All that the peer has afterwards, in order; None where nothing changes."""
    if not change.replaces_allowed_ips and not change.allowed_ips:
        return None
    wanted = dict.fromkeys(() if change.replaces_allowed_ips else present)
    for network, is_removal in change.allowed_ips:
        if is_removal:
            wanted.pop(network, None)
        else:
            wanted[network] = None
    return list(wanted)


def _remove(key: NodePublic, device: Device, paths: PlainPaths, now: float) -> None:
    device.remove_peer(key, now)
    paths.remove_peer(key)
