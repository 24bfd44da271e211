"""The lines that join a machine, to be pasted into its shell. Pure."""

from shlex import quote

from coderd.config.url import PIN_PREFIX, ServerUrl


def join_line(url: ServerUrl, token: str) -> str:
    """For a workspace's machine: the token goes through stdin, so that it is in no process's arguments.

    A server's answer is pasted into a shell with it: whatever is said to be a token is one word there.
    """
    words = ["sudo coderd run --access-url", str(url), *trust_flags(url), "--token-file -"]
    return f"echo {quote(token)} | {' '.join(words)}"


def sign_in_line(url: ServerUrl) -> str:
    """For a person's own machine, which asks for the token."""
    return " ".join(["sudo coderctl up", str(url), *trust_flags(url)])


def trust_flags(url: ServerUrl) -> list[str]:
    """What whoever joins this server has to be told besides its URL, for a shell."""
    if url.pin:
        return ["--pin", PIN_PREFIX + url.pin]
    if url.ca_file:
        return ["--ca-file", quote(url.ca_file)]
    return ["--insecure"] if url.is_insecure else []
