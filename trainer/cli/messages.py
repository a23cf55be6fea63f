"""Messages for the user: an exception as a message with a hint or as JSON, and `reprise COMMAND` as the command that the reader can type.

The spelling of a command depends on the process: on a host, in a container that a launcher on the host started, or in a container that was
started by `docker compose`. A text that says `scripts/reprise` means the host and is not changed.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Final

from trainer.base.disk_errors import disk_fault
from trainer.base.errors import RepriseError, UsageError
from trainer.base.redaction import REDACTOR
from trainer.cli import COMMANDS, IMAGE_FILE
from trainer.cli.configuration import CHECKOUT
from trainer.cli.machine import can_train
from trainer.cli.output import escaping, print_json
from trainer.runs.image_file import RUN_VARIABLE

HOST: Final = "scripts/reprise"
DOOR: Final = "scripts/train"
COMPOSE: Final = "docker compose run --rm train"
_PROJECT: Final = Path("/project")
_NAMES: Final = "|".join(sorted(COMMANDS, key=len, reverse=True))
_LONG_WORD: Final = re.compile(r"\S{300,}")
_LONGEST: Final = 4000
"""Maximum characters of a message or hint."""
_FIRST_LINE: Final = 300
_DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the disk, whether or not they name a file."""
_COMMAND: Final = re.compile(rf"(?<![\w/.-])reprise ({_NAMES})(?![\w-])")


def spelled(text: str, *, by_compose: bool | None = None) -> str:
    """Return the text with each command as the reader types it; `by_compose` overrides `is_composed`.

    >>> spelled("`reprise doctor` shows the cause; scripts/reprise runs ls", by_compose=False)
    '`scripts/reprise doctor` shows the cause; scripts/reprise runs ls'
    >>> spelled("reprise train --exp digits; reprise runs ls; `reprise doctor`", by_compose=True)
    'docker compose run --rm train --exp digits; docker compose run --rm train runs ls; `scripts/reprise doctor`'
    """
    composed = is_composed() if by_compose is None else by_compose

    def command(match: re.Match[str]) -> str:
        name = match[1]
        if composed and COMMANDS[name].location != "host":
            return COMPOSE if name == "train" else f"{COMPOSE} {name}"
        return DOOR if name == "train" and not is_set_up() else f"{HOST} {name}"

    return _COMMAND.sub(command, text)


def is_composed() -> bool:
    """Return whether the user started this container with `docker compose`, which sets REPRISE_STORE_ON_HOST, rather than a cluster.

    In a development container the checkout is writable, and its scripts work. A training runs from a copy in its run folder, which is
    always writable; so the folder at which images mount the checkout is examined.
    """
    checkout = _PROJECT if _PROJECT.is_dir() else CHECKOUT
    by_compose = "REPRISE_STORE_ON_HOST" in os.environ and RUN_VARIABLE not in os.environ
    return IMAGE_FILE.exists() and by_compose and not os.access(checkout, os.W_OK)


def is_set_up() -> bool:
    """Return whether this checkout can train: in this process, or in a container that it can start."""
    return can_train() or (CHECKOUT / ".env").exists()


def report(fault: Exception, *, as_json: bool, debug: bool) -> int:
    """Print `fault` on stderr and return its exit code."""
    stream = escaping(sys.stderr)
    if debug:
        traceback.print_exception(fault, file=stream)
    error = fault if isinstance(fault, RepriseError) else _name_error(fault) or _unexpected(fault)
    message, hint = (readable(REDACTOR.redact(spelled(text))) for text in (error.message, error.hint or ""))
    if as_json:
        document = {"error": type(fault).__name__, "message": message, "hint": hint or None, "code": error.code}
        print_json(document, file=stream)
        return error.code
    print(f"reprise: {message}", file=stream)
    if hint:
        print(f"  -> {hint}", file=stream)
    return error.code


def readable(text: str) -> str:
    """Return the text with very long words shortened and a very long text cut.

    >>> len(readable("no run is called " + 1000 * "x"))
    280
    """
    cut = _LONG_WORD.sub(lambda match: f"{match[0][:130]}...{match[0][-130:]}", text)
    return cut if len(cut) <= _LONGEST else f"{cut[:_LONGEST]} ..."


def _name_error(fault: Exception) -> RepriseError | None:
    """Return the error for a file name that no file system accepts; `None` for any other exception."""
    if isinstance(fault, OSError) and fault.errno == errno.ENAMETOOLONG:
        return UsageError(f"a name is too long for a file: {fault.filename}", hint="expected at most 255 bytes")
    if isinstance(fault, ValueError) and "embedded null" in str(fault):
        return UsageError("a name contains a NUL character, which no file name can have", hint="type it again")
    return None


def _unexpected(fault: Exception) -> RepriseError:
    """Return the error for an unexpected exception: an operating system's error about a file, else a bug."""
    if isinstance(fault, OSError) and (fault.filename is not None or fault.errno in _DISK_ERRORS):
        name = os.fsdecode(fault.filename) if isinstance(fault.filename, str | bytes | os.PathLike) else "a file"
        return disk_fault(fault, name, done="read or written")
    return RepriseError(f"unexpected {type(fault).__name__}: {_text(fault)}", hint=_BUG)


def _text(fault: Exception) -> str:
    try:
        lines = str(fault).strip().splitlines()
    except Exception:  # noqa: BLE001 - an exception may fail in its __str__
        return "its message cannot be shown"
    return lines[0][:_FIRST_LINE] if lines else "without a message"


_BUG: Final = "this is a bug in Reprise: set REPRISE_DEBUG=1 and repeat the command for a traceback"
