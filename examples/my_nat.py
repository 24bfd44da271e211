"""A NAT experiment of your own: which path do two machines get, behind the NATs that you describe here?

Run it as root from the project's directory, after ``sudo scripts/install --lab``::

    sudo .venv/bin/python examples/my_nat.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "netns-tests"))

from lab import Filtering, Lab, Mapping, Nat, Site, Topology

AT_HOME = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
AT_WORK = Nat(Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)


def main() -> None:
    """Builds the internet, joins both machines, and prints a ping and the path that it ended with."""
    with Lab(Topology("home to work", user=Site(AT_HOME), dev=Site(AT_WORK))) as lab:
        lab.join()
        print(lab.user.coderctl("ping", "dev", "-c", "3"), end="")
        print(f"path: {lab.user.path_to('dev')}")


if __name__ == "__main__":
    main()
