"""Schemathesis over the OpenAPI document, against a real server: whatever it sends, the answers are those promised."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from coderd.api.messages import PREFIX
from tests.shell.server_world import serving

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,unsupported_method,ignored_auth"
)
"""Not that everything invalid is refused: unknown fields and parameters are ignored, so that either end may be newer."""


@pytest.mark.slow
async def test_the_server_keeps_to_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It tries an unknown token at every route, and one address would soon be told to wait.
    monkeypatch.setattr("coderd.identity.attempts.BURST", 1000.0)
    async with serving(tmp_path) as world:
        argv = [
            Path(sys.executable).with_name("schemathesis").as_posix(),
            "run",
            f"{world.url}{PREFIX}/openapi.json",
            "--header=Authorization: Bearer " + world.admin_token,
            "--exclude-operation-id=end_session",
            f"--checks={CHECKS}",
            "--phases=coverage,fuzzing",
            "--max-examples=3",
            "--generation-deterministic",
            "--no-color",
        ]
        with trio.fail_after(90):
            done = await trio.run_process(
                argv,
                capture_stdout=True,
                check=False,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                env=dict(os.environ, PYTHONWARNINGS="default"),
            )
    text = done.stdout.decode()
    assert done.returncode == 0, text[-6000:]
