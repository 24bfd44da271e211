"""The server's TLS over real sockets: whose certificate is shown, and what a reload does to whom."""

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from coderd.config.tls import CertificateFiles, TlsOptions
from coderd.http.tls import ServerTls, TlsListener, fingerprint, is_certificate_for
from coderd.http.tls_stream import TlsStream
from coderd.model.errors import UserError
from coderd.server.ports import follow_reloads
from coderd.server.reloads import Reloads
from coderd.server.state import StateDirectory


def issue(authority: trustme.CA, directory: Path, stem: str, *names: str) -> CertificateFiles:
    files = CertificateFiles(directory / f"{stem}.pem", directory / f"{stem}.key")
    leaf = authority.issue_cert(*names)
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    files.key.touch(mode=0o600)
    files.key.write_bytes(leaf.private_key_pem.bytes())
    return files


class Handshakes:
    """A listener on loopback whose connections are answered with one byte each, and their client."""

    def __init__(self, listener: TlsListener, port: int, authority: trustme.CA) -> None:
        self._listener = listener
        self._port = port
        self._context = ssl.create_default_context()
        authority.configure_trust(self._context)
        self._clients: list[trio.SSLStream[trio.SocketStream]] = []

    async def serve(self) -> None:
        try:
            async with self._listener, trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._answer, await self._listener.accept())
        finally:
            for stream in self._clients:
                stream.transport_stream.socket.close()

    async def _answer(self, stream: TlsStream) -> None:
        try:
            async with stream:
                while await stream.receive_some(1):
                    await stream.send_all(b"!")
        except trio.BrokenResourceError:
            pass

    async def connect(self, name: str) -> trio.SSLStream[trio.SocketStream]:
        tcp = await trio.open_tcp_stream("127.0.0.1", self._port)
        stream = trio.SSLStream(tcp, self._context, server_hostname=name, https_compatible=True)
        self._clients.append(stream)
        await stream.send_all(b"?")
        assert await stream.receive_some(1) == b"!"
        return stream


async def handshakes(nursery: trio.Nursery, tls: ServerTls, authority: trustme.CA) -> Handshakes:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    served = Handshakes(TlsListener(listener, tls.context), listener.socket.getsockname()[1], authority)
    nursery.start_soon(served.serve)
    return served


def serial(stream: trio.SSLStream[trio.SocketStream]) -> str:
    return str(stream.getpeercert()["serialNumber"])


async def test_each_name_is_shown_its_certificate_and_strangers_the_first(tmp_path: Path) -> None:
    authority = trustme.CA()
    one = issue(authority, tmp_path, "one", "one.example", "127.0.0.1")
    other = issue(authority, tmp_path, "other", "*.other.example")
    async with trio.open_nursery() as nursery:
        served = await handshakes(nursery, ServerTls(TlsOptions(certificates=(one, other))), authority)
        first, second, third = [
            await served.connect(name) for name in ("one.example", "a.other.example", "127.0.0.1")
        ]
        assert serial(first) == serial(third) != serial(second)
        nursery.cancel_scope.cancel()


async def test_a_reload_serves_new_connections_and_leaves_the_old_alone(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = issue(authority, tmp_path, "leaf", "one.example")
    tls, reloads = ServerTls(TlsOptions(certificates=(files,))), Reloads()
    async with trio.open_nursery() as nursery:
        served = await handshakes(nursery, tls, authority)
        nursery.start_soon(follow_reloads, tls, reloads)
        before = await served.connect("one.example")
        issue(authority, tmp_path, "leaf", "one.example")
        await trio.testing.wait_all_tasks_blocked()
        reloads.ask()
        await trio.testing.wait_all_tasks_blocked()
        assert serial(await served.connect("one.example")) != serial(before)
        await before.send_all(b"?")
        assert await before.receive_some(1) == b"!"
        nursery.cancel_scope.cancel()


async def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = issue(authority, tmp_path, "leaf", "one.example")
    tls, reloads = ServerTls(TlsOptions(certificates=(files,))), Reloads()
    async with trio.open_nursery() as nursery:
        served = await handshakes(nursery, tls, authority)
        nursery.start_soon(follow_reloads, tls, reloads)
        before = await served.connect("one.example")
        files.certificate.write_text("nothing")
        await trio.testing.wait_all_tasks_blocked()
        reloads.ask()
        await trio.testing.wait_all_tasks_blocked()
        assert serial(await served.connect("one.example")) == serial(before)
        nursery.cancel_scope.cancel()


def test_each_fault_has_its_sentence(tmp_path: Path) -> None:
    authority = trustme.CA()
    good = issue(authority, tmp_path, "good", "one.example")
    strange = issue(authority, tmp_path, "strange", "two.example")
    (tmp_path / "empty").touch()
    for certificate, key, why in (
        (tmp_path / "missing", good.key, "No such file"),
        (tmp_path / "empty", good.key, "no certificate in PEM"),
        (good.certificate, strange.key, "does not fit"),
        (good.certificate, tmp_path / "missing", "No such file"),
        (good.certificate, tmp_path / "empty", "does not fit"),
    ):
        with pytest.raises(UserError, match=why):
            ServerTls(TlsOptions(certificates=(CertificateFiles(certificate, key),)))


def test_a_server_makes_its_certificate_once_and_another_for_another_host(tmp_path: Path) -> None:
    with StateDirectory(tmp_path / "state") as state:
        own = state.own_certificate("192.0.2.10")
        first = fingerprint(own.certificate)
        assert own.certificate.stat().st_mode & 0o777 == 0o600
        assert is_certificate_for(own.certificate, "192.0.2.10")
        assert fingerprint(state.own_certificate("192.0.2.10").certificate) == first
        assert fingerprint(state.own_certificate("coder.example.com").certificate) != first
        ServerTls(TlsOptions(certificates=(own,)))
