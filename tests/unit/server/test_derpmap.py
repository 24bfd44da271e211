"""The relay map that the server hands out."""

from coderd.config.url import parse_server_url
from coderd.server.derpmap import embedded_derp_map


def test_the_map_has_the_relay_and_a_stun_only_node_for_the_second_port() -> None:
    url = parse_server_url("http://192.0.2.10:3000")
    region = embedded_derp_map(url, [("::", 3478), ("::", 3479)]).regions[999]
    relay, stun = region.nodes
    assert (region.code, relay.name, relay.stun_port, relay.derp_port) == ("coder", "999b", 3478, 3000)
    assert (relay.stun_only, relay.force_http, relay.host_name) == (False, True, "192.0.2.10")
    assert (stun.stun_only, stun.stun_port, stun.host_name) == (True, 3479, "192.0.2.10")


def test_one_port_at_two_addresses_is_one_node() -> None:
    url = parse_server_url("https://coder.example.com")
    nodes = embedded_derp_map(url, [("192.0.2.1", 3478), ("::", 3478)]).regions[999].nodes
    assert [(node.stun_port, node.derp_port, node.force_http) for node in nodes] == [(3478, 443, False)]


def test_without_stun_the_relay_says_so() -> None:
    nodes = embedded_derp_map(parse_server_url("http://x"), []).regions[999].nodes
    assert [node.stun_port for node in nodes] == [-1]
