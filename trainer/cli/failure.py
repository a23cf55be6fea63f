"""How a failure is shown: one line, a hint, and the exit code; as JSON where that was asked for."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Final

from trainer.cli.spelling import spelled
from trainer.disk_faults import disk_fault
from trainer.errors import RepriseError


def report(fault: Exception, *, as_json: bool, debug: bool) -> int:
    """Print `fault` on stderr and return the exit code it stands for."""
    if debug:
        traceback.print_exception(fault, file=sys.stderr)
    known = fault if isinstance(fault, RepriseError) else _unexpected(fault)
    message, hint = spelled(known.message), spelled(known.hint or "")
    if as_json:
        document = {
            "error": type(fault).__name__,
            "message": message,
            "hint": hint or None,
            "code": known.code,
        }
        print(json.dumps(document), file=sys.stderr)
        return known.code
    print(f"reprise: {message}", file=sys.stderr)
    if hint:
        print(f"  -> {hint}", file=sys.stderr)
    return known.code


def _unexpected(fault: Exception) -> RepriseError:
    """Word what nobody expected: what the system says of a file is a matter of the machine, all else is a bug."""
    if isinstance(fault, OSError) and fault.errno is not None and fault.filename is not None:
        name = os.fsdecode(fault.filename) if isinstance(fault.filename, str | bytes | os.PathLike) else "a file"
        return disk_fault(fault, name, done="read or written")
    return RepriseError(f"unexpected {type(fault).__name__}: {_text(fault)}", hint=_BUG)


def _text(fault: Exception) -> str:
    try:
        lines = str(fault).strip().splitlines()
    except Exception:  # noqa: BLE001 - an exception may fail in its __str__
        return "it cannot be shown"
    return lines[0][:_LONGEST] if lines else "it says nothing"


_LONGEST: Final = 300
_BUG: Final = "this is a bug in Reprise: set REPRISE_DEBUG=1 and run it again to see where"
