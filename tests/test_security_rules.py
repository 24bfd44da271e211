"""What no line of the program may do, read from the syntax trees; and that docs/security.md names tests that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
MODULES = sorted((ROOT / "coderd").rglob("*.py"))

BANNED_CALLS = {
    "os.system": "no shell: arguments are lists",
    "os.popen": "no shell: arguments are lists",
    "subprocess.getoutput": "no shell: arguments are lists",
    "eval": "nothing from outside is code",
    "exec": "nothing from outside is code",
    "pickle.loads": "nothing from outside is code",
    "pickle.load": "nothing from outside is code",
    "marshal.loads": "nothing from outside is code",
    "random.random": "secrets come from the system",
    "ssl._create_unverified_context": "no certificate goes unchecked",
}
BANNED_ARGUMENTS = {
    ("shell", True): "no shell: arguments are lists",
    ("verify", False): "no certificate goes unchecked",
    ("follow_redirects", True): "a token goes to the origin that it was given for",
}
MAY_TRUST_NOBODY = {
    "coderd/http/pinned.py": "knows the very certificate, and compares it in the handshake",
    "coderd/derp/io/tls.py": "the relay map says so: a pin, or InsecureForTests",
}


def calls(path: Path) -> Iterator[ast.Call]:
    return (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_shell_no_code_from_outside_no_unchecked_certificate(path: Path) -> None:
    for call in calls(path):
        name = ast.unparse(call.func)
        assert name not in BANNED_CALLS, f"{name}: {BANNED_CALLS[name]}"
        for argument in call.keywords:
            if isinstance(argument.value, ast.Constant) and isinstance(argument.value.value, bool):
                banned = BANNED_ARGUMENTS.get((argument.arg or "", argument.value.value))
                assert banned is None, f"{argument.arg}={argument.value.value}: {banned}"
    if "CERT_NONE" in path.read_text(encoding="utf-8"):
        assert str(path.relative_to(ROOT)) in MAY_TRUST_NOBODY


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", PAGE))
    assert named
    texts = [
        path.read_text(encoding="utf-8")
        for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("netns-tests/*.py")]
    ]
    defined = {name for text in texts for name in re.findall(r"def (test_[a-z0-9_]+)\(", text)}
    assert named <= defined, sorted(named - defined)


def test_every_row_that_applies_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and " | yes" in line]
    assert rows
    assert [row for row in rows if "`test_" not in row] == []
