"""The command line of ``scripts/bench``."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import bench_handshakes
from lab import LabError

from bench import coordinator, hostile, outside, packet, relay, throughput, web

FAILED = 125
INTERRUPTED = 130
LINE_END = "\n"
TOOLS = (
    "haproxy",
    "ip",
    "iperf3",
    "nft",
    "nsenter",
    "ping",
    "taskset",
    "tc",
    "unshare",
    "wg",
    "wireguard-go",
)

DESCRIPTION = """\
Measures our data path against others', in a laboratory of network namespaces on this machine: ratios of one run.
Exit code 125: the laboratory itself failed. 130: interrupted."""

EPILOG = """\
  sudo scripts/bench throughput                                   about three minutes
  sudo scripts/bench throughput --full --rounds 5 --seconds 3 --write
  sudo scripts/bench throughput --case 'tcp-1-*' --peer ~/go/bin/wireguard-go
  sudo scripts/bench outside
  sudo scripts/bench relay
  sudo scripts/bench web
  sudo scripts/bench coordinator
  sudo scripts/bench packet
  sudo scripts/bench hostile
  sudo scripts/bench handshakes"""


def main(argv: Sequence[str]) -> int:
    """Run the command line; its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        if argv[:1] == ["handshakes"]:  # it has a command line of its own
            sys.argv = ["scripts/bench handshakes", *argv[1:]]
            return bench_handshakes.main()
        options = parser().parse_args(argv)
        check_machine(getattr(options, "peer", []))
        options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (LabError, OSError) as error:
        print(f"scripts/bench: {str(error).partition(LINE_END)[0]}", file=sys.stderr)
        return FAILED
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    bench = argparse.ArgumentParser(
        prog="scripts/bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = bench.add_subparsers(
        dest="verb",
        required=True,
        metavar="throughput | outside | relay | web | coordinator | packet | hostile | handshakes",
    )
    for name, module, says in (
        ("throughput", throughput, "tunnels against each other"),
        ("outside", outside, "the tunnel against no tunnel, on links of several speeds"),
        ("relay", relay, "what one relay carries: frames of bare clients, TCP of whole nodes"),
        ("web", web, "a workspace's web service by the server, by port-forward and by plain TCP"),
        ("coordinator", coordinator, "what one server carries of nodes that join, change and come back"),
        ("packet", packet, "what each function of the data path costs per packet, by itself"),
        ("hostile", hostile, "how soon the server answers while one client of each kind does its worst"),
    ):
        verb = verbs.add_parser(name, help=says, description=says)
        module.add_options(verb)
        verb.set_defaults(run=module.run)
    verbs.add_parser("handshakes", help="how many a core answers, and what a flood of them costs")
    return bench


def check_machine(peers: Sequence[str]) -> None:
    """Raises LabError unless a laboratory can be built here and all contenders exist."""
    if os.geteuid() != 0:
        raise LabError("network namespaces need root; run it with sudo")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [peer for peer in peers if not os.access(Path(peer), os.X_OK)]
    if missing:
        raise LabError(f"not to be found here: {', '.join(missing)}")


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # an exception, so that every "with" is left


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
