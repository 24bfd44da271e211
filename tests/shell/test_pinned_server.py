"""Trust by pin: a server with a certificate of its own making, and one that shows another."""

from pathlib import Path

import pytest
import trio
import trustme

from coderd.api.io.client import ApiClient
from coderd.api.io.machine import enrol_device
from coderd.config.tls import TlsOptions
from coderd.config.url import parse_server_url, trusted_url
from coderd.http.pinned import server_context, why_untrusted
from coderd.http.tls import fingerprint
from coderd.model.errors import Exit, UserError
from coderd.model.keys import NodePrivate
from coderd.netcheck.io import https_latency
from tests.shell.server_world import ANYWHERE, JoinedNode, World, in_thread, serving

OWN = {
    "access_url": parse_server_url("https://127.0.0.1:3000"),
    "http_address": None,
    "tls_address": ANYWHERE,
    "tls": TlsOptions(),
}


def pinned(world: World, pin: str) -> str:
    return trusted_url(f"https://127.0.0.1:{world.started.http_address[1]}", pin=pin).text


async def test_a_node_and_a_command_believe_the_pinned_certificate(tmp_path: Path) -> None:
    async with serving(tmp_path, **OWN) as world, trio.open_nursery() as nursery:
        pin = world.started.pin
        assert pin == fingerprint(world.config.state_dir / "tls.pem")
        url = pinned(world, pin)
        created = await in_thread(lambda: ApiClient(url, world.admin_token).create_workspace("dev"))
        dev = JoinedNode(created.token)
        nursery.start_soon(dev.client(url).run)
        await dev.until(lambda node: node.is_connected)
        assert dev.netmap is not None
        embedded = dev.netmap.derp_map.regions[999]
        assert embedded.nodes[0].server_trust == f"sha256:{pin}"
        assert await https_latency(embedded) is not None
        nursery.cancel_scope.cancel()


async def test_a_node_and_a_command_believe_the_authorities_in_a_file_and_no_others(tmp_path: Path) -> None:
    async with serving(tmp_path, **OWN) as world, trio.open_nursery() as nursery:
        origin = f"https://127.0.0.1:{world.started.http_address[1]}"
        url = trusted_url(origin, ca_file=str(world.config.state_dir / "tls.pem")).text
        created = await in_thread(lambda: ApiClient(url, world.admin_token).create_workspace("dev"))
        dev = JoinedNode(created.token)
        nursery.start_soon(dev.client(url).run)
        await dev.until(lambda node: node.is_connected)
        assert dev.netmap is not None
        assert await https_latency(dev.netmap.derp_map.regions[999]) is not None
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        (tmp_path / "empty.pem").touch()
        for name, code in (
            ("other.pem", "wrong_certificate"),
            ("empty.pem", "bad_ca_file"),
            ("no.pem", "bad_ca_file"),
        ):
            client = ApiClient(trusted_url(origin, ca_file=str(tmp_path / name)).text, world.admin_token)
            with pytest.raises(UserError) as refused:
                await in_thread(client.me)
            assert refused.value.code == code
        nursery.cancel_scope.cancel()


async def test_a_wrong_pin_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    async with serving(tmp_path, **OWN) as world, trio.open_nursery() as nursery:
        shown = fingerprint(world.config.state_dir / "tls.pem")
        url = pinned(world, "ab" * 32)
        with pytest.raises(UserError) as refused:
            await enrol_device(
                url, "cdrs_x", name="laptop", node_key=NodePrivate.generate(lambda n: b"k" * n).public()
            )
        assert (refused.value.exit_code, refused.value.code) == (Exit.REFUSED, "wrong_certificate")
        assert shown in refused.value.message
        assert "ab" * 32 in refused.value.message
        dev = JoinedNode("cdrd_x")
        nursery.start_soon(dev.client(url).run)
        await dev.until(lambda node: bool(node.states))
        assert dev.states[0].reason.startswith("the server is not trusted: it shows the certificate sha256:")
        nursery.cancel_scope.cancel()


async def test_without_a_pin_the_systems_authorities_decide(tmp_path: Path) -> None:
    async with serving(tmp_path, **OWN) as world:
        url = f"https://127.0.0.1:{world.started.http_address[1]}"
        with pytest.raises(UserError, match="its certificate is not trusted") as refused:
            await in_thread(ApiClient(url, "cdrs_x").me)
        assert refused.value.exit_code is Exit.REFUSED


async def test_nothing_leaves_before_the_pin_is_checked(tmp_path: Path) -> None:
    async with serving(tmp_path, **OWN) as world:
        tcp = await trio.open_tcp_stream(*world.started.http_address)
        context = server_context(parse_server_url(pinned(world, "ab" * 32)))
        stream = trio.SSLStream(tcp, context, server_hostname="127.0.0.1", https_compatible=True)
        with pytest.raises(trio.BrokenResourceError) as broken:
            await stream.send_all(b"Authorization: Bearer cdrs_x")
        assert "ab" * 32 in why_untrusted(broken.value)
        await trio.aclose_forcefully(stream)


async def test_plain_http_at_the_tls_port_is_hung_up_on_and_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, **OWN) as world:
        async with await trio.open_tcp_stream(*world.started.http_address) as tcp:
            await tcp.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.fail_after(5):
                async for _ in tcp:
                    pass
        admin = ApiClient(pinned(world, world.started.pin), world.admin_token)
        assert (await in_thread(admin.counters)).counters["http.drop.tls_handshake"] == 1
