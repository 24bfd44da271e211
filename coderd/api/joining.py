"""The lines that join a machine, to be pasted into its shell. Pure."""

from shlex import quote

from coderd.config.url import PIN_PREFIX, ServerUrl


def join_line(url: ServerUrl, token: str) -> str:
    """Returns the command for a workspace's machine; the token goes through stdin.

    A server's answer is pasted into a shell with it: whatever is said to be a token is one word there.
    """
    words = ["sudo coderd run --access-url", str(url), *trust_flags(url), "--token-file -"]
    return f"echo {quote(token)} | {' '.join(words)}"


def sign_in_line(url: ServerUrl) -> str:
    """Returns the command for a user's own machine, which asks for the token."""
    return " ".join(["sudo coderctl up", str(url), *trust_flags(url)])


def trust_flags(url: ServerUrl) -> list[str]:
    """Returns the options by which a command trusts this server; empty if none are needed."""
    if url.pin:
        return ["--pin", PIN_PREFIX + url.pin]
    if url.ca_file:
        return ["--ca-file", quote(url.ca_file)]
    return ["--insecure"] if url.is_insecure else []
