"""What no line of the program may do, read from the syntax trees.

The tests that docs/security.md names must exist, too.
"""

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


STORE = sorted((ROOT / "coderd" / "identity" / "io").glob("*.py"))
KEEPERS = {"Users", "Nodes", "Tokens", "Sessions", "Apps", "Shares", "Expiry"}
"""The store's parts that hold who may do what."""
OTHERS_TOO = {"sessions"}
"""Names that other things have, too."""
COMMANDS = {"amend", "expel", "forget", "introduce", "note_rekeyed", "close_client"}
MAY_COMMAND = {
    "coderd/server/effects.py": "the one place",
    "coderd/coordination/io/admission.py": "a node that joins while it is changed is looked at again",
    "coderd/coordination/registry.py": "the registry itself",
    "coderd/derp/io/server.py": "the relay itself",
}


MAY_CHANGE = {
    "coderd/server/recovery.py": "a program beside the server, to which the store leaves what has ended",
}


def store_methods() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every public method of the store's parts, with the name by which the store has the part."""
    for path in STORE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in KEEPERS:
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                        yield node.name.lower(), method


def is_change(method: ast.FunctionDef) -> bool:
    return method.returns is not None and ast.unparse(method.returns).startswith("Change[")


CHANGING = {(part, method.name) for part, method in store_methods() if is_change(method)}


def test_every_method_of_the_store_that_writes_returns_what_it_ends() -> None:
    writing = {
        (part, method.name)
        for part, method in store_methods()
        if "self._database.write()" in ast.unparse(method) or "write_as(" in ast.unparse(method)
    }
    assert len(writing) > 10
    assert writing <= CHANGING, sorted(writing - CHANGING)


NOT_ON_BEHALF = {
    ("sessions", "open"): "the token that is shown is looked up in the transaction",
    ("sessions", "sign_out"): "the session that is ended is looked up in the transaction",
    ("sessions", "reset"): "a program beside the server, run by its operator",
    ("tokens", "redeem"): "the join key that is shown is spent in the transaction",
}
"""Methods that take ``by`` and ask no role or token again, with the reason."""


def test_every_change_on_somebodys_behalf_asks_token_and_role_again_in_its_transaction() -> None:
    n_asking = 0
    for part, method in store_methods():
        takes_by = "by" in {argument.arg for argument in method.args.kwonlyargs}
        text = ast.unparse(method)
        if not takes_by or (part, method.name) in NOT_ON_BEHALF:
            continue
        n_asking += 1
        assert "write_as(self._database, by, " in text, f"{part}.{method.name}"
        assert "self._database.write()" not in text, f"{part}.{method.name}"
    assert n_asking > 15


def test_every_handler_says_on_whose_behalf_it_changes_the_store() -> None:
    n_told = 0
    for path in sorted((ROOT / "coderd" / "server" / "handlers").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)):
            for call in ast.walk(function):
                if applied_by(call) is None:
                    continue
                assert isinstance(call, ast.Call)
                act = call.args[0]
                assert isinstance(act, ast.Lambda)
                assert isinstance(act.body, ast.Call)
                by = {keyword.arg: ast.unparse(keyword.value) for keyword in act.body.keywords}.get("by")
                said = f"{path.name}: {function.name}"
                assert by in ("by", "actor_of(call.caller)"), said
                assert "actor_of(call.caller)" in ast.unparse(function), said
                n_told += 1
    assert n_told > 10


def test_the_store_is_changed_and_connections_are_ended_in_one_place_alone() -> None:
    n_applied = 0
    for path in set(MODULES) - set(STORE):
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        tree = ast.parse(text)
        if name.startswith("coderd/cli/"):
            assert "identity.io" not in text, f"{name}: a command asks the API, or coderd/server"
            continue
        applied = {id(act) for call in ast.walk(tree) if (act := applied_by(call)) is not None}
        n_applied += len(applied)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            said = f"{name}:{node.lineno} {ast.unparse(node)}"
            owner = ast.unparse(node.value).rpartition(".")[2].lstrip("_")
            if node.attr in COMMANDS and owner in ("registry", "relay"):
                assert name in MAY_COMMAND, f"{said}: a change does that itself"
            is_theirs = owner in OTHERS_TOO and "store" not in ast.unparse(node.value)
            if (owner, node.attr) in CHANGING and not is_theirs and name not in MAY_CHANGE:
                assert id(node) in applied, f"{said}: by Directory.change alone"
    assert n_applied > 10


def applied_by(node: ast.AST) -> ast.expr | None:
    """The changing method in ``directory.change(lambda: store.part.method(...))``."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
        return None
    match node.func.attr, node.args[0]:
        case "change" | "change_in_thread", ast.Lambda(body=ast.Call(func=applied)):
            return applied
    return None


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
