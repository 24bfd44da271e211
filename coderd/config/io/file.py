"""The configuration file: its text, or a sentence why it cannot be read."""

from pathlib import Path

from coderd.model.errors import Exit, UserError

MAX_FILE_SIZE = 64 * 1024


def read_config_file(path: Path, *, is_required: bool = False) -> str:
    """Returns a configuration file's text: empty where it does not exist and is not required.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_SIZE + 1)
        if len(text) <= MAX_FILE_SIZE:
            return text
        why = "it is too long"
    except FileNotFoundError:
        if not is_required:
            return ""
        why = "it does not exist"
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise UserError(
        f"the configuration file {path} cannot be read: {why}", exit_code=Exit.USAGE, code="bad_config"
    )
