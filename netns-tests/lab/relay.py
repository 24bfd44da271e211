"""``coderd derp`` on hosts of their own, each a region, and the map that names them to the server."""

import json
from collections.abc import Sequence

from lab.host import Host
from lab.process import LabError, Process
from lab.waiting import until

STATE_DIR = "/run/coderd-derp-state"
PORT = 3340
STUN_PORT = 3478


class Relay:
    """A region of one relay.

    Args:
        host: where it runs.
        region_id: its number.
        address: its public address.
    """

    def __init__(self, host: Host, region_id: int, address: str) -> None:
        self.host = host
        self.region_id = region_id
        self.address = address
        self.daemon: Process | None = None

    def start(self, verify_url: str) -> None:
        """Start it, and wait until it listens. Whoever comes is asked after at the server's URL."""
        argv = ["coderd", "derp", "--access-url", f"http://{self.address}:{PORT}", "--state-dir", STATE_DIR]
        daemon = self.daemon = self.host.start(
            [*argv, "--region-id", str(self.region_id), "--verify-url", verify_url],
            name=f"coderd derp, region {self.region_id}",
        )

        def is_up() -> bool:
            if not daemon.is_running:
                raise LabError(f"the relay of region {self.region_id} ended {daemon.code}")
            return self.host.answers_tcp(self.address, PORT)

        until(is_up, f"the relay of region {self.region_id} to answer")

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.daemon is not None
        self.daemon.kill()

    @property
    def region(self) -> dict[str, object]:
        """Its region in a DERP map, in Tailscale's JSON."""
        code = f"region-{self.region_id}"
        node = {
            "Name": f"{self.region_id}a",
            "RegionID": self.region_id,
            "HostName": self.address,
            "IPv4": self.address,
            "STUNPort": STUN_PORT,
            "DERPPort": PORT,
            "ForceHTTP": True,
        }
        return {"RegionID": self.region_id, "RegionCode": code, "RegionName": code, "Nodes": [node]}


def derp_map(relays: Sequence[Relay]) -> str:
    """The file for ``--derp-config-path``."""
    return json.dumps({"Regions": {str(relay.region_id): relay.region for relay in relays}})
