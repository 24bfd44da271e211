"""The dashboard's own files, read once: style, scripts, the terminal."""

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

PREFIX: Final = "/static/"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}


class _File(NamedTuple):
    content: bytes
    kind: str
    etag: str


class StaticFiles:
    """Answers for ``/static/``: nothing but the files of the package, by their names."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        for entry in (files("coderd.dashboard") / "static").iterdir():
            if kind := _TYPES.get(entry.name.rpartition(".")[2]):
                content = entry.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                self._files[entry.name] = _File(content, kind, etag)

    def answer(self, request: Request) -> Response | None:
        """Serves a file, or 304 if the browser has it already."""
        path = request.url.path
        if not path.startswith(PREFIX) or request.method not in ("GET", "HEAD"):
            return None
        file = self._files.get(path.removeprefix(PREFIX))
        if file is None:
            return Response("no such file\n", 404, media_type="text/plain")
        headers = {"etag": file.etag, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(b"", 304, headers)
        return Response(file.content, 200, {**headers, "content-type": file.kind})
