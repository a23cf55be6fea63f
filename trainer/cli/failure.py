"""How a failure is shown: one line, a hint, and the exit code; as JSON where that was asked for."""

from __future__ import annotations

import json
import sys
import traceback

from trainer.cli.spelling import spelled
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
    sentence = f"unexpected {type(fault).__name__}: {fault}"
    return RepriseError(
        sentence,
        hint="this is a bug in Reprise: set REPRISE_DEBUG=1 and run it again to see where",
    )
