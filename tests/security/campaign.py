"""Read mutated documents in a separate process with limited memory: readers may raise only the errors of Reprise.

    python -m tests.security.campaign --seconds 60 --seed 1 [--kind record]

prints a line of JSON for each kind: the number of documents, the time of the slowest, and all other exceptions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from time import process_time
from typing import TYPE_CHECKING, Any

from tests.security.kinds import KINDS
from trainer.cli.messages import report

if TYPE_CHECKING:
    from tests.security.kind import Kind

MEMORY = 3 << 30
"""Bytes of address space in addition to those in use after the imports, enough for the largest valid document."""
SLOW = 20.0
"""The maximum CPU time in seconds for one document."""


def main() -> int:
    """Run campaigns for the kinds named by `--kind`, or for all kinds; return 1 if any of them found a fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU time for each kind")
    parser.add_argument("--count", type=int, default=1 << 40, help="maximum number of documents of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=[*KINDS])
    parser.add_argument("--keep", type=Path, help="a folder for the documents that caused a fault")
    words = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    bad = 0
    for name in words.kind or KINDS:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sink = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(sink))
            stack.enter_context(redirect_stderr(sink))
            os.environ |= {"REPRISE_RUNS": str(folder / "runs"), "REPRISE_CACHE": str(folder / "cache")}
            os.environ["REPRISE_STORE"] = str(folder / "store")
            (folder / "store").mkdir()
            kind = KINDS[name](folder)
            _bound_memory()
            result = campaign(name, kind, words)
        out.write(json.dumps(result) + "\n")
        out.flush()
        bad += len(result["faults"])
    return 1 if bad else 0


def campaign(name: str, kind: Kind, words: argparse.Namespace) -> dict[str, Any]:
    """Read mutated documents until the time or the count is reached; return the results."""
    draw, began, done, slowest = Random(f"{words.seed} {name}"), process_time(), 0, 0.0  # noqa: S311 - reproducible from the seed
    faults: dict[str, dict[str, Any]] = {}
    while done < words.count and process_time() - began < words.seconds:
        body = kind.mutated(draw)
        if words.keep:  # saved first, in case reading it kills the process
            words.keep.mkdir(parents=True, exist_ok=True)
            (words.keep / f"{name}-last").write_bytes(body)
        started = process_time()
        error = _read(kind, body)
        took = process_time() - started
        slowest = max(slowest, took)
        done += 1
        if error is None and took > SLOW:
            error = f"{took:.1f} s"
        if error is not None and (place := error.rpartition(" at ")[2]) not in faults:
            faults[place] = {"fault": error, "number": done, "bytes": len(body)}
            if words.keep:
                (words.keep / f"{name}-{words.seed}-{done}").write_bytes(body)
    return {"kind": name, "executions": done, "slowest": round(slowest, 2), "faults": [*faults.values()]}


def _read(kind: Kind, body: bytes) -> str | None:
    """Return the exception and its location; `None` if the document was read or rejected with an error of Reprise."""
    try:
        kind.read(body)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # noqa: BLE001 - every exception is reported as a result
        if isinstance(fault, Exception) and report(fault, as_json=True, debug=False) != 1:
            return None
        frames = [
            f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(fault.__traceback__)[-3:]
        ]
        return f"{type(fault).__name__}: {str(fault)[:200]} at {' '.join(frames)}"
    return None


def _bound_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
