"""`reprise report RUN...`: write one HTML page about a run, or about several side by side. Needs neither torch nor a container engine.

A run is named by its id, the start of an id, `latest`, or its folder; a run that is only in the store is pulled first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError, RunError, UsageError
from trainer.base.safe_folder import Root
from trainer.cli.arguments import Arguments
from trainer.cli.places import cache_folder, runs_folder, store_address, store_at
from trainer.cli.report.page import page
from trainer.cli.report.samples import declared, samples
from trainer.cli.reproduce.original import original
from trainer.comparison.compare import EvidenceSources, compare
from trainer.reporting.gather import gather_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.comparison.compare import ComparedRun, Comparison
    from trainer.reporting.gather import Gathered
    from trainer.stores.contract import Store

MOST = 64
"""The largest number of runs on one page."""


def main(argv: list[str]) -> int:
    """Gather, compare, render and write; print the file's name to stdout."""
    words = _parser().parse_args(argv)
    if len(words.run) > MOST:
        raise UsageError(f"{len(words.run)} runs were named; a page has room for {MOST}", hint="name fewer")
    runs, unreadable = _gathered(list(dict.fromkeys(words.run)))
    text = _page(runs, draw=not words.no_samples)
    if words.output == "-":
        sys.stdout.write(text)
        return 0
    path = Path(words.output) if words.output else runs_folder() / _name(runs)
    with disk_faults(path), Root.at(path.parent) as folder:
        folder.write_whole(path.name, text.encode())
        folder.give(path.name)
    shown = path.absolute()
    place = shown.relative_to(Path.cwd()) if shown.is_relative_to(Path.cwd()) else shown
    told = {"report": str(place), "runs": [run.side.record.run for run in runs], "bytes": len(text.encode())}
    told |= {"unreadable": unreadable} if unreadable else {}
    print(json.dumps(told) if words.json else place)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise report",
        "Write one self-contained page of HTML about a run, or about several side by side: result, sameness, curves, figures,"
        " settings, code, data, environment, machine.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run: ID, start of an ID, `latest`, or folder")
    parser.add_argument("-o", "--output", metavar="FILE", help="output file (default: runs/report-ID.html; -: stdout)")
    parser.add_argument(
        "--no-samples", action="store_true", help="do not draw samples of the datasets (drawing may start a container)"
    )
    parser.add_argument("--json", action="store_true", help="print the file's name and size as JSON")
    return parser


def _gathered(words: Sequence[str]) -> tuple[list[Gathered], dict[str, str]]:
    """Return the readable runs, and the faults of the others. Raise the first fault if no run is readable."""
    found: dict[Path, Gathered] = {}
    faults: dict[str, RepriseError] = {}
    for word in words:
        try:
            folder = original(word).folder
            found[folder] = gather_run(folder)
        except (DocumentError, DigestMismatchError, RunError) as fault:
            faults[word] = fault
    if not found:
        raise next(iter(faults.values()))
    told = {word: each.message for word, each in faults.items()}
    for word, said in told.items():
        print(f"reprise: run {word} cannot be read and is left out: {said}", file=sys.stderr)
    return list(found.values()), told


def _page(runs: Sequence[Gathered], *, draw: bool) -> str:
    known = declared(run.side.record for run in runs)
    return page(runs, _compared(runs), declared=known, samples=samples(runs, known, draw=draw))


def _compared(runs: Sequence[Gathered]) -> list[Comparison | str]:
    """Compare the first run with each other run; a text explains why two runs cannot be compared."""
    if len(runs) < 2:  # noqa: PLR2004 - nothing to compare
        return []
    places = EvidenceSources(runs=runs_folder(), cache=cache_folder(), store=_store())
    return [_comparison(runs[0].side, other.side, places) for other in runs[1:]]


def _comparison(a: ComparedRun, b: ComparedRun, places: EvidenceSources) -> Comparison | str:
    try:
        return compare(a, b, sources=places)
    except RepriseError as fault:
        return fault.message


def _store() -> Store | None:
    address = store_address()
    try:
        return store_at(address) if address else None
    except RepriseError:
        return None


def _name(runs: Sequence[Gathered]) -> str:
    more = f"-and-{len(runs) - 1}-more" if len(runs) > 1 else ""
    return f"report-{runs[0].side.record.run}{more}.html"
