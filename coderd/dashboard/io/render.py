"""Templates to HTML.

Every value that a template is given is escaped; what is invisible, or turns text around, is shown as �.
"""

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coderd.dashboard.excerpt import excerpt
from coderd.dashboard.paths import rtt_text, view_paths
from coderd.model.visible import visible


def make_environment() -> Environment:
    """Returns the environment of this package's templates."""
    environment = Environment(
        loader=PackageLoader("coderd.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["when"] = when
    environment.filters["bytes"] = byte_size
    environment.filters["excerpt"] = excerpt
    environment.filters["round_trip"] = rtt_text
    environment.filters["paths_view"] = view_paths
    return environment


def when(seconds: float | None) -> Markup:
    """Formats wall-clock seconds as a moment that is readable as it is."""
    if seconds is None:
        return Markup("never")
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M UTC")
    )


def byte_size(number: float) -> str:
    """Formats a size for people: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _visible(value: Any) -> Any:
    """Replaces characters in a template's value that would hide or reorder the text around it.

    Leaves our own markup.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value
