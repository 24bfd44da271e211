"""Limits on what comes from outside stand in ``model/limits.py`` alone; ``docs/limits.md`` shows them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMITS = ROOT / "coderd" / "model" / "limits.py"
PAGE = ROOT / "docs" / "limits.md"

SERVER_SIDE = [
    "api",
    "apps",
    "browser",
    "coordination",
    "dashboard",
    "derp",
    "http",
    "identity",
    "server",
    "terminal",
    "webterminal",
]
NAMED_AS_LIMIT = re.compile(
    r"(^|_)(MAX|TIMEOUT|BURST|RATE|LIFETIME|QUEUE|WINDOW|GRACE|IDLE)(_|$)|PER_SOURCE|_PER_PEER"
)

OTHER_SIDE = {
    "api/io/exchange.py": "what coderctl waits for",
    "coordination/netmap_client.py": "the node's side",
    "coordination/saved_netmap.py": "the node's side",
    "coordination/io/coordination_client.py": "the node's side",
    "coordination/reporter.py": "what a node says, not what is taken",
    "derp/client.py": "the node's side",
    "derp/dial_plan.py": "the node's side",
    "derp/io/client.py": "the node's side",
    "derp/io/dial.py": "the node's side",
    "derp/io/meta_certificate.py": "the form of a certificate of our own",
    "derp/io/opening.py": "the node's side",
    "derp/io/websocket.py": "the node's side",
    "derp/dial_history.py": "the node's side",
    "http/dialer.py": "the node's side",
    "http/self_signed.py": "the form of a certificate of our own",
    "http/tls.py": "files of the operator",
    "server/backup.py": "files of the operator",
    "server/health/checks.py": "how the server looks at itself",
    "server/health/findings.py": "how the server looks at itself",
    "server/node/enclave.py": "a process of our own",
    "server/node/server_node.py": "the server as a node: what it waits for by itself",
    "server/map_source.py": "what the server asks by itself",
    "server/relay/verifier.py": "what a relay asks by itself",
    "terminal/io/login_service.py": "a process of our own",
    "terminal/io/shell.py": "a process of our own",
    "terminal/io/starting.py": "a process of our own",
}
"""Modules whose waits and sizes are no limits on what the server admits, with the reason."""

NO_LIMIT = {
    ("api/messages/message.py", "MAX_ANSWER"): "what coderctl reads",
    ("apps/address.py", "MAX_LABEL"): "DNS",
    ("coordination/farewell.py", "MAX_SPREAD_MS"): "what the server tells others",
    ("coordination/message.py", "MAX_PARCEL"): "what is written",
    ("coordination/message.py", "MAX_SERVER_MESSAGE"): "what a node reads",
    ("coordination/paths.py", "LIFETIME_BOUNDS"): "the buckets of a histogram",
    ("dashboard/excerpt.py", "MAX_SHOWN"): "what is shown of our own",
    ("dashboard/paths.py", "MAX_MATRIX"): "what is shown of our own",
    ("dashboard/paths.py", "MAX_ROWS"): "what is shown of our own",
    ("derp/handshake.py", "MAX_SERVER_INFO_SIZE"): "what a node reads",
    ("derp/io/server.py", "RESTART_TIMEOUT"): "what the server tells others",
    ("derp/client_rate.py", "MIN_BURST"): "the operator's rate, rounded up",
    ("derp/websocket.py", "MAX_MESSAGE"): "what is written",
    ("http/streams.py", "KEEPALIVE_IDLE"): "how TCP looks whether somebody is there",
    ("http/streams.py", "_TCP_USER_TIMEOUT"): "a number of Linux",
    ("identity/io/rows.py", "MAX_AUDIT_TEXT"): "what is written of our own",
    ("identity/io/rows.py", "MAX_LISTED"): "how the store asks",
    ("server/health/access_check.py", "TRIAL_TIMEOUT"): "what the server asks by itself",
    ("server/health/access_check.py", "_MAX_NAME"): "what is shown",
    ("server/directory.py", "MAX_CLAIMS"): "how the store is asked",
    ("server/run.py", "DRAIN_TIMEOUT"): "how the server ends",
    ("webterminal/messages.py", "MAX_MESSAGE"): "a sum of others",
    ("webterminal/messages.py", "MAX_SENTENCE"): "what is shown",
}


def constants(path: Path) -> Iterator[tuple[str, ast.expr, str]]:
    """Module constants: name, value, and the docstring below."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, below in zip(body, [*body[1:], ast.Pass()], strict=True):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not isinstance(target, ast.Name) or value is None:
            continue
        text = (
            below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
        )
        yield target.id, value, str(text)


def has_number(value: ast.expr) -> bool:
    return any(
        isinstance(each, ast.Constant) and type(each.value) in (int, float) for each in ast.walk(value)
    )


def found() -> set[tuple[str, str]]:
    """Constants of the server's side that are called like limits and have numbers of their own."""
    return {
        (str(path.relative_to(ROOT / "coderd")), name)
        for package in SERVER_SIDE
        for path in sorted((ROOT / "coderd" / package).rglob("*.py"))
        for name, value, _ in constants(path)
        if NAMED_AS_LIMIT.search(name) and has_number(value)
    }


def test_no_limit_stands_elsewhere() -> None:
    assert {(path, name) for path, name in found() if path not in OTHER_SIDE} - set(NO_LIMIT) == set()


def test_the_exceptions_are_still_there() -> None:
    assert set(NO_LIMIT) <= found()
    assert set(OTHER_SIDE) <= {path for path, _ in found()}


@pytest.mark.slow
def test_each_limit_is_applied_and_says_what_it_limits() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "coderd").rglob("*.py"))
    for name, _, text in constants(LIMITS):
        assert text, name
        assert re.search(rf"\blimits\.{name}\b", code), name


def test_the_page_shows_the_limits_as_they_are() -> None:
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    wanted = [
        f"| `{name}` | {number(eval(ast.unparse(value)))} | {text} |"
        for name, value, text in constants(LIMITS)
    ]
    assert rows == wanted


def number(value: float) -> str:
    """As people read it: 65,536."""
    return f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"
