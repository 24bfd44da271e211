"""Derives from both ends' facts why a path is not direct, the deciding cause first. Pure.

Rules are tried in order. Each is a fact that alone prevents a direct path; the last ones apply only where the
path stayed relayed, because they do not prevent a direct path in every case.
"""

from collections.abc import Iterator
from typing import Literal

from coderd.control.messages import Cause
from coderd.model.paths import PathKind
from coderd.netcheck.facts import Facts

Side = Literal["this", "peer", "both"]

UDP_FIX = "Let UDP out to anywhere at the firewall, and its answers in again, at least to the peer and the server's STUN port."
NAT_FIX = (
    "Make one side's NAT keep the same port for all destinations, forward a UDP port to that machine "
    "(coderd run --listen-port), or give it a public address."
)
BIRTHDAY_FIX = " Or let both search for the port: coderd run --birthday."
SERVER_FIX = (
    "Give the server a public address, or let what stands before it pass on UDP 3478 and 3479 with the senders' addresses; "
    "or name other STUN servers (coderd server --derp-server-stun-addresses)."
)
NO_REASON_FIX = "Let the firewalls pass UDP between the two, then ask again."


def explain(
    name: str, path: PathKind, this: Facts, peer: Facts | None, *, is_online: bool
) -> tuple[Cause, ...]:
    """Returns the causes of the path not being direct, the deciding one first; none where the path is direct.

    Args:
        name: the peer's name, for the sentences.
        path: the kind of path by which the peer answered just now.
        this: this end's facts.
        peer: the other end's facts; None where it could not be asked.
        is_online: whether the server sees the peer.
    """
    if path is PathKind.DIRECT:
        return ()
    causes = [
        *(_unreachable(name, this, is_online) if path is PathKind.NONE else ()),
        *_certain(name, this, peer),
    ]
    if path is PathKind.RELAY and not any(cause.cause == "small-mtu" for cause in causes):
        causes += _narrow(name, this, peer)
    if path is PathKind.RELAY:
        causes += _likely(name, this, peer)
    if not causes:
        causes.append(_unexplained(name, path, peer))
    return tuple(causes)


def _unreachable(name: str, this: Facts, is_online: bool) -> Iterator[Cause]:
    if not is_online:
        yield Cause(
            cause="offline",
            side="peer",
            sentence=f"{name} is offline: the server has no connection to it.",
            fix="Start its daemon, or look there at: coderctl status",
        )
    if not this.relay:
        yield Cause(
            cause="no-relay",
            side="this",
            sentence="This machine is connected to no relay.",
            fix="Let TCP out to the server's address, and see that the server runs.",
        )


def _certain(name: str, this: Facts, peer: Facts | None) -> Iterator[Cause]:
    is_blocked = this.blocked or (peer is not None and peer.blocked)
    if is_blocked:
        yield Cause(
            cause="blocked-by-policy",
            side="network",
            sentence=f"The server allows this machine and {name} the relay only.",
            fix="Ask the server's administrator to allow direct connections.",
        )
    if not this.stun and not is_blocked:  # a server that blocks direct connections offers none on purpose
        yield Cause(
            cause="no-stun",
            side="network",
            sentence="The server offers no STUN, so neither side can learn its public address.",
            fix="Start coderd server without --stun-address off, and let UDP 3478 and 3479 reach it.",
        )
    yield from _server_behind_nat(this, peer)
    yield from _no_udp(name, this, peer)
    if this.varies and peer is not None and peer.varies:
        yield Cause(
            cause="hard-nat",
            side="both",
            sentence=f"Both this machine and {name} are behind hard NATs, which use another port for each "
            "destination, so neither knows where to send to.",
            fix=NAT_FIX,
        )
    yield from _small_mtu(name, this, peer)


def _server_behind_nat(this: Facts, peer: Facts | None) -> Iterator[Cause]:
    standings = {this.server, peer.server if peer is not None else "unknown"}
    if "masked" in standings:
        sentence = (
            "The server is behind a NAT that hides its clients' addresses: its STUN sees the NAT's in their place, "
            "so no side can learn its public address from it."
        )
    elif "closed" in standings:
        sentence = (
            "The server is behind a NAT or load balancer, and no STUN request has ever come through that, "
            "so no side can learn its public address."
        )
    else:
        return
    yield Cause(cause="server-behind-nat", side="network", sentence=sentence, fix=SERVER_FIX)


def _no_udp(name: str, this: Facts, peer: Facts | None) -> Iterator[Cause]:
    side = _side(_has_no_udp(this), peer is not None and _has_no_udp(peer))
    if side is None:
        return
    who = {
        "this": "This machine gets no UDP through",
        "peer": f"{name} gets no UDP through",
        "both": f"Neither this machine nor {name} gets UDP through",
    }[side]
    yield Cause(cause="no-udp", side=side, sentence=f"{who}: no STUN server answers.", fix=UDP_FIX)


def _has_no_udp(facts: Facts) -> bool:
    """Returns whether no STUN server answers an end, except where no STUN request reaches the server at all.

    Such a server is silent whatever a firewall at this end does.
    """
    return facts.udp is False and facts.server != "closed"


def _small_mtu(name: str, this: Facts, peer: Facts | None) -> Iterator[Cause]:
    ends: tuple[tuple[Literal["this", "peer"], str, Facts | None], ...] = (
        ("this", "this machine", this),
        ("peer", name, peer),
    )
    for side, who, facts in ends:
        if facts is None or facts.mtu_needed is None:
            continue
        if facts.mtu is not None and facts.mtu < facts.mtu_needed:
            yield Cause(
                cause="small-mtu",
                side=side,
                sentence=f"Packets out of {who} may have {facts.mtu} bytes, and a direct path needs {facts.mtu_needed}.",
                fix=f"Raise the MTU of that machine's interface to {facts.mtu_needed} or more.",
            )
        elif facts.carries_full is False:
            yield Cause(
                cause="small-mtu",
                side=side,
                sentence=f"Small datagrams come through from {who}, but packets of {facts.mtu_needed} bytes, which a "
                "direct path needs, vanish on the way.",
                fix=f"Look for a link with a smaller MTU, or a filter, on that side's way out, and let {facts.mtu_needed} "
                "bytes pass.",
            )


def _narrow(name: str, this: Facts, peer: Facts | None) -> Iterator[Cause]:
    if this.narrow or (peer is not None and peer.narrow):
        size = f"of {this.mtu_needed} bytes" if this.mtu_needed is not None else "of the tunnel's size"
        yield Cause(
            cause="small-mtu",
            side="network",
            sentence=f"Small datagrams pass directly between this machine and {name}, but packets {size} vanish on the way.",
            fix="Look for a link with a smaller MTU between the two, or a filter, and let full packets pass.",
        )


def _likely(name: str, this: Facts, peer: Facts | None) -> Iterator[Cause]:
    """Yields the hard NAT of one end, as the cause of a path that stayed relayed.

    A lenient NAT at the other end overcomes a hard one, and a direct path would have opened.
    """
    side = _side(this.varies is True, peer is not None and peer.varies is True)
    if side is None or side == "both":
        return
    who, other = ("This machine", name) if side == "this" else (name, "this machine")
    is_random = (this if side == "this" or peer is None else peer).ports == "random"
    yield Cause(
        cause="hard-nat",
        side=side,
        sentence=f"{who} is behind a hard NAT, which uses another port for each destination, and {other}'s side "
        "lets in only ports that it has sent to.",
        fix=NAT_FIX + (BIRTHDAY_FIX if is_random else ""),
    )


def _unexplained(name: str, path: PathKind, peer: Facts | None) -> Cause:
    if path is PathKind.NONE:
        return Cause(
            cause="no-answer",
            side="peer",
            sentence=f"{name} does not answer by any path.",
            fix="Look at coderctl status on that machine.",
        )
    unasked = "" if peer is not None else f", and {name} could not be asked"
    return Cause(
        cause="unexplained",
        side="network",
        sentence=f"No direct path has opened, though nothing here speaks against one{unasked}.",
        fix=NO_REASON_FIX,
    )


def _side(this: bool, peer: bool) -> Side | None:
    if this and peer:
        return "both"
    if this:
        return "this"
    return "peer" if peer else None
