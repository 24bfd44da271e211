"""``coderd derp``: a relay alone."""

import os
import socket
from pathlib import Path

from coderd.cli.settings import Flags, takes
from coderd.config.relay import DEFAULT_FILE, RELAY_SETTINGS, parse_relay_config
from coderd.model.errors import Exit


@takes(RELAY_SETTINGS, DEFAULT_FILE)
def derp(flags: Flags, config: Path | None) -> int:
    """Run a relay alone, for a region far from the server.

    It prints itself as a region for the server's --derp-config-path. A client is refused unless the verify
    URL clearly allows it; while nothing answers there, every client is refused.

    Examples: coderd derp --access-url https://derp.example.com --verify-url
      https://coder.example.com/derp/verify coderd derp --access-url http://192.0.2.20:3340 --verify-url
      http://192.0.2.10:3000/derp/verify coderd derp --access-url https://derp.example.com --tls-cert-file
      c.pem --tls-key-file k.pem --allow-any-client
    """
    from coderd.config.io.file import read_config_file
    from coderd.server.process import serve_relay

    path = config or DEFAULT_FILE
    text = read_config_file(path, is_required=config is not None)
    serve_relay(parse_relay_config(flags, os.environ, text, str(path), host_name=socket.gethostname()))
    return Exit.DONE
