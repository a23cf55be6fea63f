"""`reprise runs ls`: list runs on this machine and in the store."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base.document import read_json_below
from trainer.base.errors import RepriseError, StoreError
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import counted, listed
from trainer.cli.configuration import STORE_HELP, runs_folder, store_at
from trainer.cli.formatting import columns
from trainer.cli.messages import spelled
from trainer.cli.output import print_json, underlying
from trainer.cli.run_page import summary
from trainer.cli.runs.table import fitted, table, without_column
from trainer.comparison.noise import FOLDER as NOISE
from trainer.comparison.noise import Noise
from trainer.runs.list import list_runs, local_ids, stored_runs
from trainer.sweeps.document import FOLDER as SWEEPS
from trainer.sweeps.folder import load, resolve_sweep, sweep_ids

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Verb
    from trainer.runs.list import ListedRun

_LISTED: Final = 20
"""The default number of runs."""


def describe(ls: Verb) -> None:
    """Declare the options of `ls`."""
    ls.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"list at most N runs; 0: all (default: {_LISTED}; with --sweep: all)",
    )
    places = ls.add_mutually_exclusive_group()
    places.add_argument("--local", action="store_true", help="list only local runs, without access to the store")
    places.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)
    ls.add_argument(
        "--sweep", metavar="SWEEP", help="list only the runs of this sweep: ID, start of an ID, or `latest`"
    )


def ls(args: Namespace) -> int:
    """List runs, latest first; without a store that answers, local runs only, with a warning."""
    limit = (None if args.sweep else _LISTED) if args.limit is None else args.limit or None
    most = None if args.sweep or limit is None else limit + 1
    rows = _with_store(args.store, most) if not args.local else list_runs(runs_folder(), limit=most)
    if args.sweep:
        sweep = load(runs_folder() / SWEEPS / resolve_sweep(args.sweep, sweep_ids(runs_folder())))
        runs = {point.run for point in sweep.points}
        rows = [row for row in rows if row.run in runs][:limit]
    if most is not None and len(rows) == most:
        rows = rows[:limit]
        print(f"the newest {counted(len(rows), 'run')} are listed; --limit 0 lists all", file=sys.stderr)
    for row in rows:
        if row.record is None:
            print(f"reprise: run {row.run} cannot be read: {row.fault}", file=sys.stderr)
    if args.json:
        print_json([summary(listed) for listed in rows], indent=1)
    elif not rows:
        print(spelled("no runs yet: `reprise train --exp digits` starts a run"), file=sys.stderr)
    else:
        _table(table(rows, measured=_measured()))
        if names := without_column(rows):
            print(f"also different, without a column: {listed(names)}; --json lists all settings", file=sys.stderr)
    return 0


def _with_store(address: str | None, limit: int | None) -> list[ListedRun]:
    """List local and published runs; if the store is unreachable, list local runs and print a warning."""
    if address is None:
        print("only local runs are listed: no store is configured", file=sys.stderr)
        return list_runs(runs_folder(), limit=limit)
    try:
        store = store_at(address)
        found = stored_runs(store)
        if unsealed := sorted({*found.unsealed} - {*local_ids(runs_folder())}):
            print(
                f"not listed: {listed(unsealed)}, of which only checkpoints were published: each may still train on another machine; "
                "if that machine is lost: " + spelled("reprise train --resume RUN --trust"),
                file=sys.stderr,
            )
        return list_runs(runs_folder(), store=store, remote=found.sealed, limit=limit)
    except StoreError as fault:
        print(f"only local runs are listed: {fault.message}", file=sys.stderr)
        if fault.hint:
            print(f"  -> {spelled(fault.hint)}", file=sys.stderr)
        return list_runs(runs_folder(), limit=limit)


def _measured() -> set[str]:
    """Return the IDs of runs of noise measurements; files that cannot be read as measurements are skipped."""
    runs: set[str] = set()
    with suppress(OSError, RepriseError), run_root(runs_folder() / NOISE) as folder:
        for name in folder.names():
            with suppress(RepriseError):
                if name.endswith(".json"):
                    runs.update(read_json_below(folder, name, Noise).runs)
    return runs


def _table(lines: list[tuple[str, ...]]) -> None:
    if not sys.stdout.isatty():
        print("\n".join(columns(lines)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colors = {"completed": "green", "failed": "red", "killed": "red", "unreadable": "red", "running": "cyan"}
    console, grid = Console(file=underlying(sys.stdout)), Table(box=None, pad_edge=False)
    rows, omitted = fitted(lines, console.width)
    for name in rows[0]:
        grid.add_column(name, no_wrap=name not in {"experiment", "took"}, overflow="fold", min_width=len(name))
    for cells in rows[1:]:
        grid.add_row(*(Text(cell, style=colors.get(cell, "")) for cell in cells))
    console.print(grid)
    if omitted:
        print(
            f"columns omitted for lack of space: {', '.join(omitted)}; a wider terminal or a pipe shows them",
            file=sys.stderr,
        )
