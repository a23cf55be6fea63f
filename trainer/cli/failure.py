"""How a failure is shown: one line, a hint, and the exit code; as JSON where that was asked for."""

from __future__ import annotations

import json
import re
import sys
import traceback

from trainer.cli import COMMANDS
from trainer.errors import RepriseError


def report(fault: Exception, *, as_json: bool, debug: bool) -> int:
    """Print `fault` on stderr and return the exit code it stands for."""
    if debug:
        traceback.print_exception(fault, file=sys.stderr)
    known = fault if isinstance(fault, RepriseError) else _unexpected(fault)
    if as_json:
        document = {
            "error": type(fault).__name__,
            "message": known.message,
            "hint": known.hint,
            "code": known.code,
        }
        print(json.dumps(document), file=sys.stderr)
        return known.code
    print(f"reprise: {known.message}", file=sys.stderr)
    if known.hint:
        print(f"  -> {_typed(known.hint)}", file=sys.stderr)
    return known.code


def _typed(hint: str) -> str:
    """Spell a command of ours as it is typed on the host, where hints are followed.

    >>> _typed("`reprise doctor` says why; scripts/reprise runs ls")
    '`scripts/reprise doctor` says why; scripts/reprise runs ls'
    """
    return re.sub(rf"(?<![\w/.-])reprise (?=(?:{'|'.join(COMMANDS)})\b)", "scripts/reprise ", hint)


def _unexpected(fault: Exception) -> RepriseError:
    sentence = f"unexpected {type(fault).__name__}: {fault}"
    return RepriseError(
        sentence,
        hint="this is a bug in Reprise: set REPRISE_DEBUG=1 and run it again to see where",
    )
