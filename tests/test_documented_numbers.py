"""Numbers in the documents are those of the code: sentences as they must stand, made from the constants.

See also test_limits.py.
"""

import re
from pathlib import Path

import msgspec
import pytest

from coderd.apps import address
from coderd.config import derp_map
from coderd.control import protocol
from coderd.control.io import server as control
from coderd.control.messages import PingParams
from coderd.dashboard import excerpt
from coderd.model import limits, ports
from coderd.model.addresses import PORT_NODE_API
from coderd.packetfilter import peer
from coderd.peerapi import message as node_api
from coderd.server import run
from coderd.terminal.scrollback import SCROLLBACK

ROOT = Path(__file__).parent.parent
KIB, MIB, HOUR, DAY = 1024, 1 << 20, 3600, 24 * 3600
WORDS = {1: "a", 3: "three", 5: "five", 8: "eight", 12: "twelve", 100: "a hundred"}


def whole(value: float) -> str:
    """A number that has to be whole, as digits."""
    assert value == int(value), value
    return str(int(value))


def word(value: float) -> str:
    return WORDS[int(whole(value))]


def script_interval() -> float:
    """Seconds after which the dashboard's script asks anew."""
    text = (ROOT / "coderd" / "dashboard" / "static" / "live.js").read_text(encoding="utf-8")
    found = re.search(r"const INTERVAL = (\d+); // milliseconds", text)
    assert found is not None
    return int(found[1]) / 1000


def default(name: str) -> str:
    found = next(field for field in msgspec.structs.fields(PingParams) if field.name == name)
    return f"{found.default:g}"


SENTENCES = [
    ("control-socket.md", f"at most {whole(protocol.MAX_LINE / MIB)} MiB with the newline"),
    ("control-socket.md", f"at most {control.MAX_WAITING_LINES} wait."),
    ("control-socket.md", f"A connection without a request is closed after {whole(control.IDLE_TIMEOUT)} seconds"),
    ("control-socket.md", f"a caller who does not read after {whole(control.WRITE_TIMEOUT)}."),
    ("control-socket.md", f"{control.MAX_MANAGERS_CONNECTIONS} connections for root and the operator"),
    ("control-socket.md", f"{control.MAX_USERS_CONNECTIONS} for the group's members, {control.MAX_USERS_CONNECTIONS_EACH} for each of them"),
    ("control-socket.md", f"and {control.MAX_OTHERS_CONNECTIONS} for others, {control.MAX_OTHERS_CONNECTIONS_EACH} each"),
    ("control-socket.md", f"`count` ({default('count')}; 0 = until closed)"),
    ("control-socket.md", f"`interval_s` ({default('interval_s')}), `timeout_s` ({default('timeout_s')})"),
    ("control-socket.md", f"serves TCP port {PORT_NODE_API} of its tailnet address"),
    ("control-socket.md", f"One line each way, at most {node_api.MAX_LINE} bytes"),
    ("dashboard.md", f"a session of its own for {word(limits.BROWSER_SESSION_LIFETIME / HOUR)} hours"),
    ("dashboard.md", f"Of a long list {word(excerpt.MAX_SHOWN)} are shown"),
    ("dashboard.md", f"what is shown is at most {word(script_interval())} seconds old"),
    ("terminal.md", f"at most {limits.MAX_TERMINALS_PER_PEER} terminals by browser for each workspace"),
    ("terminal.md", f"At most {limits.MAX_TERMINALS_PER_PEER} terminals for each device and {limits.MAX_TERMINALS} in all."),
    ("terminal.md", f"{whole(SCROLLBACK / KIB)} KiB of output are kept for each"),
    ("web-apps.md", f"which wait up to {word(limits.APP_IDLE_TIMEOUT)} seconds for the next"),
    (
        "web-apps.md",
        f"at most {word(limits.MAX_APP_IDLE_PER_ROUTE)} wait for each, {limits.MAX_APP_IDLE_PER_WORKSPACE} for a workspace, {limits.MAX_APP_IDLE} in all",
    ),
    ("web-apps.md", f"One person may have {limits.MAX_APP_STREAMS} requests and WebSockets open"),
    ("web-apps.md", f"{limits.MAX_APP_STREAMS_OF_WORKSPACE} may be open at one workspace"),
    ("web-apps.md", f"at most {address.MAX_LABEL} letters"),
    ("web-apps.md", f"a WebSocket message may have {whole(limits.MAX_WEBSOCKET_MESSAGE / MIB)} MiB"),
    ("api.md", f"a body has {whole(limits.MAX_API_BODY / KIB)} KiB and {whole(limits.API_BODY_TIMEOUT)} seconds"),
    ("api.md", f"with `?limit=N` (up to {limits.MAX_API_LIST})"),
    ("sharing.md", f"An offer lapses after {whole(limits.OFFER_LIFETIME / DAY)} days"),
    ("sharing.md", f"One user may have given {limits.MAX_SHARES_GIVEN} shares and offers"),
    ("sharing.md", f"shown the newest {limits.MAX_SHARES_LISTED} offers"),
    ("sharing.md", f"TCP and UDP ports and ranges, at most {ports.MAX_RANGES}"),
    ("server.md", f"requests that are being answered have {word(run.DRAIN_TIMEOUT)} seconds"),
    ("server.md", f"{whole(limits.ATTEMPTS_BURST)} at once and one every {word(1 / limits.ATTEMPTS_RATE)} seconds from one address"),
    ("server.md", f"{whole(limits.SITE_ATTEMPTS_BURST)} at once, one a second, from a /48"),
    ("server.md", f"({whole(limits.PATH_COUNT_BURST)} at once, four a second)"),
    ("nodes.md", f"{word(peer.ECHO_RATE)} pings a second of each peer"),
    ("derp-maps.md", f"at most {derp_map.MAX_REGIONS}, at most {derp_map.MAX_NODES} nodes in each and {whole(derp_map.MAX_MAP_SIZE / KIB)} KiB in all"),
]  # fmt: skip


@pytest.mark.parametrize(("page", "sentence"), SENTENCES)
def test_the_page_says_what_the_code_does(page: str, sentence: str) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert sentence in text


def test_what_the_sentences_leave_to_words_is_so() -> None:
    assert limits.SITE_ATTEMPTS_RATE == 1
    assert limits.PATH_COUNT_RATE == 4
    assert limits.TERMINAL_DETACHED_LIFETIME == HOUR
    assert limits.MAX_TERMINAL_GRACE == 60
    assert limits.BROWSER_SESSION_LIFETIME == limits.PASS_LIFETIME  # a session lasts as its cookie does


@pytest.mark.parametrize("page", ["control-socket.md", "dashboard.md"])
def test_no_number_of_these_pages_is_held_to_nothing(page: str) -> None:
    """Numbers with a unit, in prose: each stands in a sentence of the table."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    prose = " ".join(line for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines())
    units = r"(?:MiB|KiB|bytes|seconds|hours|minutes|connections|wait\b)"
    numbers = set(re.findall(rf"\b(\d+|{'|'.join(WORDS.values())}) {units}", " ".join(prose.split())))
    held = " ".join(sentence for where, sentence in SENTENCES if where == page)
    assert {number for number in numbers if not re.search(rf"\b{number}\b", held)} == set()
