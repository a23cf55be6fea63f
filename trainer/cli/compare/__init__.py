"""`reprise compare`: compare two runs and report the verdict with its evidence. Needs neither torch nor a container engine.

A run is named by its id, the start of an id, `latest`, or its folder. For a run that is only in the store, the record is compared.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import canonical
from trainer.base.errors import RepriseError, RunError, RunNotFoundError, UsageError
from trainer.base.suggestions import did_you_mean
from trainer.cli.arguments import Arguments
from trainer.cli.compare.page import headline, page
from trainer.cli.configuration import (
    STORE_HELP,
    cache_folder,
    is_folder,
    runs_folder,
    store_address,
    store_at,
    typed_folder,
)
from trainer.cli.find_run import RUN_HELP, find_run_id
from trainer.cli.output import one_line, underlying
from trainer.comparison.compare import ComparedRun, EvidenceSources, compare, load_compared_run
from trainer.comparison.verdict import Rung
from trainer.runs.list import local_ids, remote_ids, remote_run
from trainer.runs.names import resolve_run

if TYPE_CHECKING:
    from trainer.comparison.compare import Comparison
    from trainer.stores.contract import Store

_RUNGS = {rung.value.replace(" ", "-"): rung for rung in Rung if rung is not Rung.NOT_COMPARABLE}


def main(argv: list[str]) -> int:
    """Compare, print, and return the verdict's exit code."""
    args = _parser().parse_args(argv)
    required = _rung(args.at_least) if args.at_least else None
    store = _store(args.store or store_address())
    sources = EvidenceSources(runs=runs_folder(), cache=cache_folder(), store=store)
    comparison = compare(_find_run(args.a, store), _find_run(args.b, store), sources=sources)
    if args.json:
        print(canonical(comparison.document()).decode())
    else:
        _print(comparison, limit=None if args.all else args.most)
    rung = comparison.verdict.rung
    return rung.code if required is None else int(not rung.reaches(required))


def _parser() -> Arguments:
    parser = Arguments(
        "reprise compare",
        "Compare two runs. Exit codes: 0 identical, 10 within tolerance, 11 within noise, 20 different, 30 not comparable; "
        "docs/reference/exit-codes.md.",
    )
    parser.add_argument("a", metavar="A", help=RUN_HELP)
    parser.add_argument("b", metavar="B", help="second run, in the same forms")
    at_least = f"exit with 0 if the verdict is VERDICT or stronger, else 1: {', '.join(_RUNGS)}"
    parser.add_argument("--at-least", metavar="VERDICT", help=at_least)
    most = "show at most N lines of each list (default: 12)"
    parser.add_argument("-n", "--most", type=int, default=12, metavar="N", help=most)
    parser.add_argument("--all", action="store_true", help="show all lines")
    parser.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _rung(word: str) -> Rung:
    name = word.strip().lower().replace(" ", "-")
    if name not in _RUNGS:
        raise UsageError(f"--at-least {word}: unknown verdict", hint=did_you_mean(name, _RUNGS))
    return _RUNGS[name]


def _store(address: str | None) -> Store | None:
    """Return the configured store; `None` if there is none or it cannot be opened, which matters only for runs that are not local."""
    try:
        return store_at(address) if address else None
    except RepriseError as fault:
        print(f"only local runs are compared: {fault.message}", file=sys.stderr)
        return None


def _find_run(word: str, store: Store | None) -> ComparedRun:
    """Return the run that `word` names: a folder, else a local run, else a run in the store."""
    path, runs = Path(word), runs_folder()
    if word and is_folder(path):
        return load_compared_run(typed_folder(path))
    local = local_ids(runs)
    try:
        return load_compared_run(runs / find_run_id(word, local))
    except RunNotFoundError as missing:
        if store is None:
            raise
        try:
            remote = remote_ids(store)
        except RepriseError as fault:
            message = f"{missing.message} on this machine, and {fault.message}"
            raise RunNotFoundError(message, hint=missing.hint) from fault
    run = resolve_run(word, {*local, *remote})
    listed = remote_run(store, run, remote[run])
    if listed.record is None:
        raise RunError(f"run {run} has no record that can be read: {listed.fault}", hint="do not use it")
    return ComparedRun(record=listed.record)


def _print(comparison: Comparison, *, limit: int | None) -> None:
    first, *rest = [headline(comparison), *page(comparison, limit=limit)]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        text = Text(one_line(first), style=_COLORS[comparison.verdict.rung])
        Console(file=underlying(sys.stdout)).print(text, soft_wrap=True)
    else:
        print(first)
    print("\n".join(rest))


_STYLES = ("bold green", "bold green", "bold yellow", "bold red", "bold magenta")
_COLORS = dict(zip(Rung, _STYLES, strict=True))
