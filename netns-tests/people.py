"""Running a program on a machine of the laboratory as somebody other than root."""

NOBODY = 65534


def as_user(uid: int) -> list[str]:
    """What goes before a command to have it run by a user without any group or right.

    But one: to read and search, for the project and its Python may lie where only root may look.
    """
    may_read = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *may_read, "--"]
