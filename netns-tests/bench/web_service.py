"""A web service that costs next to nothing itself.

A thread per connection, HTTP/1.1 as far as the load asks for it.

python -m bench.web_service PORT

    GET  /page          200 bytes
    GET  /bytes?N       N bytes
    POST /upload        takes the body, says how many bytes it had
"""

import socket
import sys
import threading

PIECE = bytes(1 << 18)
PAGE = b"x" * 200
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"


def main(port: int) -> None:
    """Serves until killed."""
    with socket.create_server(("0.0.0.0", port), backlog=256) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection: socket.socket) -> None:
    """Answers one request after another."""
    buffer = bytearray(1 << 18)
    with connection:
        waiting = b""
        while True:
            head, found, rest = waiting.partition(b"\r\n\r\n")
            if not found:
                if not (data := connection.recv(65536)):
                    return
                waiting += data
                continue
            target = head.split(b" ", 2)[1]
            if target == b"/upload":
                size = left = content_length(head)
                left -= len(rest)
                while left > 0:
                    left -= connection.recv_into(buffer, min(left, len(buffer)))
                rest, told = b"", b"%d" % size
                connection.sendall(OK % len(told) + told)
            elif target.startswith(b"/bytes?"):
                send_bytes(connection, int(target.partition(b"?")[2]))
            else:
                connection.sendall(OK % len(PAGE) + PAGE)
            waiting = rest


def content_length(head: bytes) -> int:
    """Of a request that is known to have one."""
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])


def send_bytes(connection: socket.socket, size: int) -> None:
    """An answer of so many bytes."""
    connection.sendall(OK % size)
    view = memoryview(PIECE)
    while size > 0:
        connection.sendall(view[: min(size, len(view))])
        size -= len(view)


if __name__ == "__main__":
    main(int(sys.argv[1]))
