"""A web app as people run it in a workspace, on its loopback alone: pages, uploads, streams and a WebSocket.

python -m hypercorn --worker-class trio --bind 127.0.0.1:8080 web_app:app
"""

import hashlib
from collections.abc import AsyncIterator

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>An app</title><h1>An app</h1><p id="echoed">echoed: nothing</p><p id="cookies"></p>
<label>File <input type="file" id="file"></label><p id="uploaded"></p>
<script>
const show = (id, text) => document.getElementById(id).textContent = id + ": " + text;
show("cookies", document.cookie || "none");
let socket, heardAt;
function connect() {
  socket = new WebSocket("echo");
  heardAt = Date.now();
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => { heardAt = Date.now(); if (event.data) show("echoed", event.data); };
}
setInterval(() => {
  if (socket.readyState === WebSocket.OPEN) socket.send("");
  if (Date.now() - heardAt < 1000) return;
  show("echoed", "lost");
  socket.onmessage = socket.onopen = null;
  socket.close();
  connect();
}, 300);
connect();
document.getElementById("file").onchange = async (event) => {
  const answer = await fetch("upload", {method: "POST", body: event.target.files[0]});
  const told = await answer.json();
  show("uploaded", told.size + " bytes, " + told.sha256);
};
</script></html>"""


async def page(request: Request) -> Response:
    """Something to look at.

    It opens a WebSocket, again when nothing is heard on it for a second, and uploads what file it is given.
    """
    return HTMLResponse(PAGE)


async def show(request: Request) -> Response:
    """What the app was told."""
    return JSONResponse({"target": str(request.url.path), "headers": dict(request.headers)})


async def upload(request: Request) -> Response:
    """The SHA-256 of a body, taken as it comes."""
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return JSONResponse({"sha256": digest.hexdigest(), "size": size})


async def download(request: Request) -> Response:
    """So many bytes, in pieces."""
    left = int(request.query_params["size"])

    async def pieces(left: int) -> AsyncIterator[bytes]:
        while left > 0:
            yield bytes(min(left, 65536))
            left -= 65536

    return StreamingResponse(pieces(left), media_type="application/octet-stream")


async def ticks(request: Request) -> Response:
    """Events without end, ten a second."""

    async def events() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await trio.sleep(0.1)

    return StreamingResponse(events(), media_type="text/event-stream")


async def echo(websocket: WebSocket) -> None:
    """Says everything again."""
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] != "websocket.receive":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


async def cookies(request: Request) -> Response:
    """Sets one of its own, one for everybody, and one that is not its to set."""
    response = PlainTextResponse("set")
    response.set_cookie("mine", "1")
    response.set_cookie("wide", "1", domain="example.com")
    response.set_cookie("coderd_session", "stolen")
    return response


app = Starlette(
    routes=[
        Route("/page", page),
        Route("/upload", upload, methods=["POST"]),
        Route("/download", download),
        Route("/ticks", ticks),
        Route("/cookies", cookies),
        WebSocketRoute("/echo", echo),
        Route("/{rest:path}", show, methods=["GET", "POST", "DELETE"]),
    ]
)
