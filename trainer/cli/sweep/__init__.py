"""`reprise sweep EXP --learning-rate 1e-4,3e-4 --seed 1..5`: train at every point of a grid, with one source and one image.

All points are checked before the source is frozen and the first run starts. Points whose run already exists are not trained again.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import RepriseError, RunError, UsageError
from trainer.base.suggestions import counted, nearest
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT, DRY_RUN_HELP, runs_folder
from trainer.cli.formatting import columns
from trainer.cli.output import print_notice, print_result
from trainer.cli.sweep.create import find_or_create
from trainer.cli.sweep.jobs import current_states, load_sweep, require_no_job
from trainer.cli.sweep.launchers import gpus_for, launcher_for, slots_for
from trainer.cli.sweep.request import parse_request
from trainer.cli.sweep.scheduler import Scheduler
from trainer.cli.train.command_line import report_shared_options
from trainer.cli.trust import require_own_sweep
from trainer.reporting.drawing import PlotLine, as_file, draw, plot_lines
from trainer.runs.figure import BarFigure, Heights
from trainer.sweeps.document import FOLDER, Sweep
from trainer.sweeps.folder import (
    PointState,
    load,
    lock_sweep,
    point_states,
    record_at,
    sweep_root,
    unreadable,
)
from trainer.sweeps.results import summarize_sweep

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trainer.sweeps.document import Sweep
    from trainer.sweeps.results import SweepResults, SweepRow


def main(argv: list[str]) -> int:
    """Run `reprise sweep`."""
    experiment = argv[0] if argv and not argv[0].startswith("-") else None
    args, rest = _parser().parse_known_args(argv if experiment is None else argv[1:])
    if experiment:
        report_shared_options("sweep", argv, experiment)
    _require_consistent(args, has_settings=bool(rest or experiment))
    selected = args.go_on or args.show
    if args.to is not None:
        from trainer.cli.sweep.submit import submit

        submitted = submit(args, experiment, rest)
        if submitted is None:
            return 0
        return _show_results(submitted, args)
    sweep = (
        load_sweep(selected)
        if selected
        else find_or_create(parse_request(experiment, rest, points=args.points), again=args.again)
    )
    folder = runs_folder() / FOLDER / sweep.id
    failure = None
    if not args.show:
        try:
            require_own_sweep(sweep, folder)
            with lock_sweep(folder):
                sweep = _train(load(folder), folder, jobs=args.jobs)
        except RepriseError as error:
            sweep, failure = load(folder), error
    return _show_results(sweep, args, failure)


def _require_consistent(args: Namespace, *, has_settings: bool) -> None:
    """Raise `UsageError` for options that contradict each other, or have no effect."""
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs is {args.jobs}; expected 1 or more", hint="--jobs 2")
    if (args.go_on or args.show) and (has_settings or args.points or args.again):
        hint = f"reprise sweep --{'continue' if args.go_on else 'show'} {args.go_on or args.show}"
        raise UsageError(
            f"--{'continue' if args.go_on else 'show'} takes no experiment, settings, --points or --again", hint=hint
        )
    if args.to is None and args.dry_run:
        raise UsageError("--dry-run prints a job, but no cluster is named", hint="--to SITE")
    others = {"--to": args.to, "--jobs": args.jobs, "--continue": args.go_on}
    if args.show and (other := next((name for name, value in others.items() if value is not None), None)):
        raise UsageError(f"--show only prints results: it cannot be used with {other}", hint=f"remove {other}")


def _show_results(sweep: Sweep, args: Namespace, failure: RepriseError | None = None) -> int:
    """Print the results, and raise `failure`, or `RunError` for unfinished points unless they are only shown."""
    folder = runs_folder() / FOLDER / sweep.id
    states = current_states(sweep)
    records = {
        number: record for number, point in enumerate(sweep.points) if (record := record_at(point, runs=runs_folder()))
    }
    results = summarize_sweep(sweep, states, records, by=args.sort, mode=args.mode)
    show(sweep, folder, results, unreadable=_unreadable(sweep), as_json=args.json, by=args.sort)
    if failure is not None:
        raise failure
    if not args.show and (unfinished := len(states) - states.count(PointState.FINISHED)):
        hint = f"their output is in runs/{FOLDER}/{sweep.id}/logs/; the same command trains them again"
        raise RunError(f"sweep {sweep.id}: {unfinished} of {counted(len(states), 'point')} not finished", hint=hint)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise sweep",
        "Train at every point of a grid, with one source and one image. EXPERIMENT is a name in trainer/experiments/, or a Python file. "
        "Options that are not listed here are settings, or --settings FILE, as for `reprise train`. One value (--batch-size 64) applies to "
        "every point; several values (--learning-rate 1e-4,3e-4) or a range of integers (--seed 1..5) form an axis of the grid. `reprise "
        "train --exp EXPERIMENT --help` lists the settings. If the source and the image are unchanged, the same request continues its "
        "earlier sweep, and finished runs that match a point are reused. Exit codes: 0 every point is finished, 80 not; "
        "docs/reference/exit-codes.md.",
    )
    parser.usage = (
        "%(prog)s EXPERIMENT --SETTING VALUES ... [--points FILE] [--jobs N]\n"
        "                     [--to SITE [--dry-run]] [--again] [--sort METRIC]\n"
        "                     [--mode {min,max}] [--json]\n"
        "       %(prog)s --continue SWEEP [--jobs N] [--to SITE [--dry-run]]\n"
        "                     [--sort METRIC] [--mode {min,max}] [--json]\n"
        "       %(prog)s --show SWEEP [--sort METRIC] [--mode {min,max}] [--json]"
    )
    parser.add_argument(
        "--points", metavar="FILE", help="TOML file with a [[points]] table for each point, combined with the grid"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="points to train at the same time (default: 1; with GPUs: one for each set of `--devices` GPUs; with --to: as many as the "
        "cluster starts)",
    )
    parser.add_argument(
        "--to",
        metavar="SITE",
        help="submit the unfinished points as an array job to the Slurm cluster SITE, a name in sites/, without .toml, and do not wait "
        "for them",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help=f"{DRY_RUN_HELP}; if all points have finished, there is no job: print the results as without this option",
    )
    parser.add_argument(
        "--continue",
        dest="go_on",
        metavar="SWEEP",
        help="continue a sweep: ID, start of an ID, or `latest`",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="start a new sweep, and do not reuse finished runs",
    )
    parser.add_argument("--show", metavar="SWEEP", help="print the results of a sweep, and train nothing")
    parser.add_argument(
        "--sort",
        metavar="METRIC",
        help="metric to sort by (default: the monitored metric, else val_loss or another metric)",
    )
    parser.add_argument(
        "--mode",
        choices=("min", "max"),
        help="whether a lower or a higher value is better (default: setting `monitor_mode` for the monitored metric, else max for "
        "scores and min for losses)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _unreadable(sweep: Sweep) -> dict[int, str]:
    """Return why records cannot be read, by the number of the point, counted from 0; print a line for each such record."""
    results = {number: unreadable(point, runs=runs_folder()) for number, point in enumerate(sweep.points)}
    faults = {number: reason for number, reason in results.items() if reason is not None}
    for number, reason in faults.items():
        print(
            f"reprise: run {sweep.points[number].run} of point {number + 1} cannot be read: {reason}", file=sys.stderr
        )
    return faults


def _train(sweep: Sweep, folder: Path, *, jobs: int | None) -> Sweep:
    states = point_states(sweep, runs=runs_folder())
    if all(state is PointState.FINISHED for state in states):
        return sweep
    require_no_job(sweep, states)
    launcher, slots = launcher_for(sweep, folder), slots_for(gpus_for(sweep, folder), jobs=jobs)
    unfinished = len(states) - states.count(PointState.FINISHED)
    print_notice(f"{unfinished} of {counted(len(states), 'point')} to train, {len(slots)} at the same time")
    return Scheduler(sweep=sweep, folder=folder, checkout=CHECKOUT, launcher=launcher, slots=slots).run()


PLOT: Final = "plot.svg"
_MOST_METRICS: Final = 4
"""Maximum number of metrics with a column."""
_DECADE: Final = 10.0


def show(
    sweep: Sweep,
    folder: Path,
    results: SweepResults,
    *,
    unreadable: Mapping[int, str] = {},
    as_json: bool,
    by: str | None,
) -> None:
    """Write the plot and print the results; `unreadable` maps points, counted from 0, to the reason why their record cannot be read."""
    plot = _plotted(sweep, folder, results)
    if by is not None and results.metrics and results.metric != by:
        suggestions = nearest(by, results.metrics, most=1)
        also = f"; did you mean {suggestions[0]}?" if suggestions else ""
        print(f"reprise: no run has the metric {by}: sorted by {results.metric}{also}", file=sys.stderr)
    result = document(sweep, folder, results, plot)
    for number, fault in unreadable.items():
        result["points"][number]["unreadable"] = fault
    print_result(result, page(sweep, folder, results, plot), as_json=as_json)


def page(sweep: Sweep, folder: Path, results: SweepResults, plot: Path | None) -> Iterator[str]:
    """Yield the printed lines: the number of points in each state, the table, the failed points and the path of the plot."""
    count = Counter(results.point_states)
    counts = ", ".join(f"{count[state]} {state}" for state in PointState if count[state])
    yield f"sweep {sweep.id} of {sweep.asked.experiment}: {counts}"
    if results.metric is not None:
        yield ""
        head = ("", *results.axes, *(["seeds"] if results.seeds else []), *results.metrics[:_MOST_METRICS], "runs")
        yield from columns([head, *(_cells(row, sweep, results) for row in results.rows)])
        spread = ", mean and deviation over seeds" if results.seeds else ""
        yield ""
        yield f"* best: {results.mode} {results.metric}{spread}"
    for number, state in enumerate(results.point_states):
        if state in {PointState.FAILED, PointState.STOPPED}:
            yield f"{state}: point {number + 1}, {sweep.points[number]} ({folder / 'logs' / f'{number + 1}.txt'})"
    if plot is not None:
        yield f"plot: {plot}"


def _cells(row: SweepRow, sweep: Sweep, results: SweepResults) -> tuple[str, ...]:
    runs = [sweep.points[number].run or "" for number in row.numbers]
    states = {results.point_states[number] for number in row.numbers}
    label = runs[0] if len(runs) == 1 and runs[0] else f"{len([run for run in runs if run])} runs"
    suffix = "" if states == {PointState.FINISHED} else f" ({', '.join(sorted(states - {PointState.FINISHED}))})"
    return (
        "*" if row is results.best else "",
        *(row.settings[name] for name in results.axes),
        *([str(row.finished)] if results.seeds else []),
        *(_figure(row, name) for name in results.metrics[:_MOST_METRICS]),
        f"{label}{suffix}",
    )


def _figure(row: SweepRow, metric: str) -> str:
    mean, deviation = row.mean(metric), row.deviation(metric)
    if mean is None:
        return "not finite" if row.finished else "-"
    return f"{mean:.6g}" if deviation is None else f"{mean:.5g} ± {deviation:.2g}"


def document(sweep: Sweep, folder: Path, results: SweepResults, plot: Path | None) -> dict[str, Any]:
    """Return all results as a JSON document."""
    points = [
        {"settings": point.settings, "run": point.run, "status": str(state), "code": point.code}
        for point, state in zip(sweep.points, results.point_states, strict=True)
    ]
    rows = [
        {
            "settings": row.settings,
            "points": [number + 1 for number in row.numbers],
            "finished": row.finished,
            "best": row is results.best,
            "metrics": {
                name: {"mean": row.mean(name), "deviation": row.deviation(name), "values": row.values.get(name, [])}
                for name in results.metrics
            },
        }
        for row in results.rows
    ]
    return {
        "sweep": sweep.id,
        "experiment": sweep.asked.experiment,
        "source": sweep.source,
        "folder": str(folder),
        "sorted_by": results.metric,
        "mode": results.mode,
        "points": points,
        "rows": rows,
        "plot": None if plot is None else str(plot),
    }


def _plotted(sweep: Sweep, folder: Path, results: SweepResults) -> Path | None:
    """Write a plot of the metric that rows are sorted by, and return its path; `None` if no row has the metric."""
    metric = results.metric
    rows = [row for row in results.rows if metric and row.mean(metric) is not None]
    if metric is None or not rows:
        return None
    axis = next((name for name in results.axes if _is_numeric(results, name)), None)
    title = f"{metric} of {sweep.asked.experiment}" + (", mean over seeds" if results.seeds else "")
    path = folder / PLOT
    svg = _bars(rows, metric, title) if axis is None else _lines(rows, metric, title, axis=axis)
    with disk_faults(path), sweep_root(folder) as root:
        root.write_whole(PLOT, as_file(svg).encode())
    return path


def _is_numeric(results: SweepResults, name: str) -> bool:
    texts = {row.settings[name] for row in results.rows}
    return len(texts) > 1 and all(_number(text) is not None for text in texts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _lines(rows: list[SweepRow], metric: str, title: str, *, axis: str) -> Any:
    """Draw a line for each combination of the other axes, along the numeric axis `axis`, which is logarithmic if it spans a decade."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        rest = " ".join(f"{name}={text}" for name, text in row.settings.items() if name != axis)
        series.setdefault(rest or metric, []).append((float(row.settings[axis]), row.mean(metric) or 0.0))
    positions = [x for points in series.values() for x, _ in points]
    decades = min(positions) > 0 and max(positions) >= _DECADE * min(positions)
    lines = [
        PlotLine(name=name, x=[x for x, _ in sorted(points)], y=[y for _, y in sorted(points)])
        for name, points in series.items()
    ]
    return plot_lines(lines, title=title, x_label=axis, y_label=metric, log_x=decades)


def _bars(rows: list[SweepRow], metric: str, title: str) -> Any:
    labels = tuple(" ".join(row.settings.values()) or "all" for row in rows)
    heights = Heights(name=metric, y=tuple(row.mean(metric) or 0.0 for row in rows))
    return draw(BarFigure(name="sweep", title=title, x_label="", y_label=metric, labels=labels, series=(heights,)))
