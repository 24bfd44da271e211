"""``scripts/lab``: builds one of the laboratory's internets, with coderd on it.

Then it runs something on the user's host.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lab import TOPOLOGIES, Lab, LabError
from lab_matrix import run_matrix
from oracle import predict

SURPRISED = 1
"""Of a matrix that is not as predicted."""
LAB_FAILED = 125
INTERRUPTED = 130
GRACE = 5.0
"""Seconds that an interrupted command has to end by itself."""

DESCRIPTION = """\
Whole internets of network namespaces, on this machine and in memory: a server, a workspace "dev" and a user, with
whatever NATs and firewalls a topology puts between them."""

EPILOG = """\
COMMAND runs on the user's host, where coderctl is on PATH and finds the daemon. Its exit code is the exit code;
125 means that the laboratory itself failed, 130 that it was interrupted. A matrix ends 1 if anything is not as predicted.

  scripts/lab list
  scripts/lab shell no-nat
  scripts/lab run easy-nat -- coderctl speedtest dev
  scripts/lab run hard-nat-both -- coderctl ping dev -c 3
  scripts/lab matrix --jobs 2 --only 'server-*'"""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    lab = argparse.ArgumentParser(
        prog="scripts/lab",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = lab.add_subparsers(dest="verb", required=True, metavar="list | run | shell | matrix")
    verbs.add_parser("list", help="name the topologies")
    matrix = verbs.add_parser(
        "matrix",
        help="all of them, every pair of NATs, and what tunnels live through; writes docs/topologies.md",
    )
    matrix.add_argument("--jobs", type=int, default=1, metavar="N", help="laboratories at a time")
    matrix.add_argument(
        "--only",
        metavar="PATTERN",
        help="those whose names match, such as 'hard-*', 'kill-*' or '*/hard-*'; writes nothing",
    )
    for verb, says in (("run", "run a command in one"), ("shell", "a prompt on the user's host of one")):
        sub = verbs.add_parser(verb, help=says)
        sub.add_argument("topology", choices=TOPOLOGIES, metavar="TOPOLOGY", help="a name that `list` gives")
        sub.add_argument(
            "--server-arg",
            action="append",
            default=[],
            metavar="ARG",
            help="one more argument of coderd server",
        )
        if verb == "run":
            sub.epilog = "What follows -- is the command to run on the user's host."
    return lab


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    own, command = split_at_dashes(given)
    arguments = parser().parse_args(own)
    if arguments.verb == "run" and not command:
        parser().error("run needs a command after --, such as -- coderctl status")
    if arguments.verb == "list":
        print_topologies()
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        if arguments.verb == "matrix":
            return 0 if run_matrix(jobs=max(1, arguments.jobs), only=arguments.only) else SURPRISED
        return run(
            arguments.topology, command or prompt(arguments.topology), server_arguments=arguments.server_arg
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except LabError as error:
        print(f"scripts/lab: {error}", file=sys.stderr)
        return LAB_FAILED


def split_at_dashes(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first ``--``, and what after it, dashes and all."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt  # so that every "with" is left


def print_topologies() -> None:
    """One line each: name, predicted path, description."""
    for name, topology in TOPOLOGIES.items():
        print(f"{name:<20} {predict(topology):<7} {topology.says}")


def prompt(topology: str) -> list[str]:
    """An interactive shell that says where it is."""
    return ["bash", "--norc", "-c", f"PS1='[{topology}] user:\\w\\$ ' exec bash --norc -i"]


def run(topology: str, command: Sequence[str], *, server_arguments: Sequence[str] = ()) -> int:
    """Build a topology, join both sides, run a command on the user's host, and return its exit code."""
    started = time.monotonic()
    with Lab(topology) as lab:
        lab.join(server_arguments=server_arguments)
        print(
            f"{topology}: the user and dev see each other ({time.monotonic() - started:.1f} s)",
            file=sys.stderr,
        )
        child = lab.user.host.popen(command, process_group=0)
        with terminal_of(child):
            return wait(child)


def wait(child: subprocess.Popen[bytes]) -> int:
    """Its exit code as a shell tells it; our SIGINT becomes its own."""
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
        return INTERRUPTED
    return code if code >= 0 else 128 - code


@contextmanager
def terminal_of(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """While it runs, the terminal is the child's, so that ^C and ^Z reach it and not us.

    A shell does so for its jobs.
    """
    if not sys.stdin.isatty() or os.tcgetpgrp(0) != os.getpgrp():
        yield
        return
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else taking it back would stop us
    os.tcsetpgrp(0, child.pid)
    try:
        yield
    finally:
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


if __name__ == "__main__":
    sys.exit(main())
