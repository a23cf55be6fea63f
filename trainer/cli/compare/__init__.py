"""`reprise compare`: compare two runs and report the verdict with its evidence. Needs neither torch nor a container engine.

A run is named by its ID, the start of an ID, `latest`, or its folder. For a run that is only in the store, only the record is compared.
"""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import canonical
from trainer.base.errors import RepriseError, RunError, RunNotFoundError, UsageError
from trainer.base.suggestions import all_are, did_you_mean
from trainer.cli.arguments import Arguments
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
from trainer.cli.formatting import columns
from trainer.cli.messages import spelled
from trainer.cli.output import one_line, underlying
from trainer.comparison.compare import ComparedRun, EvidenceSources, compare, load_compared_run, stronger_verdicts
from trainer.comparison.trace import FILE
from trainer.comparison.verdict import VerdictLevel
from trainer.runs.differences import DifferenceKind
from trainer.runs.list import local_ids, remote_ids, remote_run
from trainer.runs.names import resolve_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.comparison.compare import Comparison
    from trainer.comparison.compare_outputs import OutputDifference
    from trainer.comparison.verdict import ComparedMetric
    from trainer.comparison.weights import TensorDifference, WeightsComparison
    from trainer.runs.differences import Candidate
    from trainer.stores.contract import Store

_LEVELS = {level.value.replace(" ", "-"): level for level in VerdictLevel if level is not VerdictLevel.NOT_COMPARABLE}


def main(argv: list[str]) -> int:
    """Compare, print, and return the verdict's exit code."""
    args = _parser().parse_args(argv)
    required = _verdict_level(args.at_least) if args.at_least else None
    store = _store(args.store or store_address())
    sources = EvidenceSources(runs=runs_folder(), cache=cache_folder(), store=store)
    comparison = compare(_find_run(args.a, store), _find_run(args.b, store), sources=sources)
    if args.json:
        print(canonical(comparison.document()).decode())
    else:
        _print(comparison, limit=None if args.all else args.limit)
    level = comparison.verdict.level
    return level.code if required is None else int(not level.reaches(required))


def _parser() -> Arguments:
    parser = Arguments(
        "reprise compare",
        "Compare two runs. Exit codes: 0 identical, 10 within tolerance, 11 within noise, 20 different, 30 not comparable; "
        "docs/reference/exit-codes.md.",
    )
    parser.add_argument("a", metavar="A", help=RUN_HELP)
    parser.add_argument("b", metavar="B", help=f"second {RUN_HELP}")
    at_least = f"exit with 0 if the verdict is VERDICT or stronger, else 1: {', '.join(_LEVELS)}"
    parser.add_argument("--at-least", metavar="VERDICT", help=at_least)
    length = parser.add_mutually_exclusive_group()
    limit = "show at most N lines of each list (default: 12)"
    length.add_argument("--limit", type=int, default=12, metavar="N", help=limit)
    length.add_argument("--all", action="store_true", help="show all lines")
    parser.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _verdict_level(word: str) -> VerdictLevel:
    name = word.strip().lower().replace(" ", "-")
    if name not in _LEVELS:
        raise UsageError(f"--at-least {word}: unknown verdict", hint=did_you_mean(name, _LEVELS))
    return _LEVELS[name]


def _store(address: str | None) -> Store | None:
    """Return the configured store; `None` if no store is configured, or if it cannot be opened, which is reported on stderr."""
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
        raise RunError(
            f"run {run} has no record that can be read: {listed.fault}",
            hint="compare another run, or ask its author for a new copy",
        )
    return ComparedRun(record=listed.record)


def _print(comparison: Comparison, *, limit: int | None) -> None:
    first, *rest = [headline(comparison), *page(comparison, limit=limit)]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        text = Text(one_line(first), style=_COLORS[comparison.verdict.level])
        Console(file=underlying(sys.stdout)).print(text, soft_wrap=True)
    else:
        print(first)
    print("\n".join(rest))


_STYLES = ("bold green", "bold green", "bold yellow", "bold red", "bold magenta")
_COLORS = dict(zip(VerdictLevel, _STYLES, strict=True))


_LONGEST = 60
"""The largest number of characters of a value in a table."""
_LARGEST_ULPS = 1 << 20
"""The largest distance in ulps that is shown as a number; a larger distance is shown as a relative difference."""


def headline(comparison: Comparison) -> str:
    """Return the verdict in one line."""
    prefix = "it is the same run; " if comparison.same_run else ""
    return f"{comparison.verdict.level}: {prefix}{spelled(comparison.verdict.reason)}"


def page(comparison: Comparison, *, limit: int | None) -> Iterator[str]:
    """Yield all evidence, with at most `limit` lines of each long list."""
    yield from columns([("A", *_run(comparison.a)), ("B", *_run(comparison.b))])
    if comparison.same_run:
        return
    requirements = [(level.value, spelled(reason)) for level, reason in stronger_verdicts(comparison).items()]
    yield from _block("determinism", _reduced_determinism(comparison))
    yield from _block("not guaranteed", _limits(comparison))
    yield from _block("first difference", _divergence(comparison))
    yield from _candidates(comparison, limit)
    yield from _block("result metrics", _figures(comparison.verdict.metrics) if comparison.verdict.metrics else ())
    yield from _block("outputs", _outputs(comparison.outputs, limit) if comparison.outputs else ())
    yield from _block("weights", _weights(comparison.weights, limit) if comparison.weights else ())
    yield from _block("for a stronger verdict", columns(requirements) if requirements else ())
    yield from _block("not compared", map(spelled, comparison.notes))


def _block(title: str, lines: Iterable[str]) -> Iterator[str]:
    rows = [f"  {one_line(line)}" for line in lines]
    if rows:
        yield from ("", title, *rows)


def _run(run: ComparedRun) -> tuple[str, ...]:
    record, folder = run.record, str(run.folder) if run.folder else "in the store"
    started = f"{record.circumstances.timing.started:%Y-%m-%d %H:%M} UTC"
    return (record.run, f"attempt {record.attempt}", record.ingredients.experiment, started, folder)


def _reduced_determinism(comparison: Comparison) -> Iterator[str]:
    """Yield each run whose determinism was below the requested level at its end, with the cause."""
    for name, record in (("A", comparison.a.record), ("B", comparison.b.record)):
        if causes := record.circumstances.determinism_at_end:
            level, others = (
                record.ingredients.determinism.level,
                f" and {len(causes) - 1} more" if len(causes) > 1 else "",
            )
            yield f"{name} is {record.promise}, {level} was requested: {causes[0]}{others}"


def _limits(comparison: Comparison) -> Iterator[str]:
    """Yield the guarantees that runs of a plain LightningModule lack, with the reasons; one line for both runs if they agree."""
    a, b = (each.record.circumstances.limits for each in (comparison.a, comparison.b))
    for name in sorted({*a, *b}):
        if a.get(name) == b.get(name):
            yield f"{name}: {a[name]}"
        else:
            yield from (f"{run}: {name}: {each[name]}" for run, each in (("A", a), ("B", b)) if name in each)


def _divergence(comparison: Comparison) -> Iterator[str]:
    if (divergence := comparison.divergence) is None:
        return
    if comparison.are_scripts:
        yield f"step {divergence.step} of the logged results"
        yield f"{divergence.quantity}: {divergence.a} in A, {divergence.b} in B"
        return
    stream = f"stream {divergence.stream}" + (f", tensor {divergence.tensor}" if divergence.tensor else "")
    previous = f"after step {divergence.after}, " if divergence.after is not None else ""
    prefix = "" if divergence.by == FILE else f"{previous}not later than "
    yield f"{prefix}step {divergence.step}, {stream}"
    yield f"{divergence.quantity or 'fingerprint'}: {divergence.a} in A, {divergence.b} in B"


def _candidates(comparison: Comparison, limit: int | None) -> Iterator[str]:
    """Yield the differences; if the results are identical, they are not called candidates for a cause."""
    candidates = comparison.candidates
    title = "differences" if comparison.verdict.level is VerdictLevel.IDENTICAL else "candidates for a cause"
    ingredients = [each for each in candidates if each.ingredient or each.kind is DifferenceKind.RESUMED]
    others = [each for each in candidates if each not in ingredients]
    if not candidates:
        yield from _block(title, ["nothing: all ingredients and circumstances are equal"])
    yield from _block(f"{title}: ingredients", _table(ingredients, limit))
    yield from _block(f"{title}: circumstances, which should not affect the result", _table(others, limit))


def _table(candidates: list[Candidate], limit: int | None) -> Iterator[str]:
    groups = [list(group) for _, group in groupby(candidates, key=lambda candidate: candidate.kind)]
    aligned = columns([_cells(candidate) for each in groups for candidate in each[:limit]]) if groups else iter(())
    for each in groups:
        for candidate in each[:limit]:
            yield next(aligned)
            longest, count = None if limit is None else 4 * limit, len(candidate.inside)
            yield from (f"    {line}" for line in candidate.inside[:longest])
            if longest is not None and count > longest:
                yield f"    ... and {count - longest} more lines: --all shows them"
        if limit is not None and len(each) > limit:
            yield f"... and {len(each) - limit} more of kind {each[0].kind}: --all shows them"


def _cells(candidate: Candidate) -> tuple[str, ...]:
    values = (_value(candidate.a, candidate.from_a), _value(candidate.b, candidate.from_b))
    return (candidate.kind, "" if candidate.name == candidate.kind else candidate.name, *values)


def _value(value: str, origin: str | None) -> str:
    text = re.sub(r"sha256:[0-9a-f]{64}", lambda digest: digest[0][:19], value)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{text} ({origin})" if origin else text


def _figures(figures: tuple[ComparedMetric, ...]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("metric", "A", "B", "B - A", "apart", "tolerance", "noise")]
    for figure in figures:
        runs = zip((figure.a, figure.b), figure.undefined, strict=True)
        values = ("undefined" if reason else "absent" if value is None else repr(value) for value, reason in runs)
        difference = ("equal", "") if figure.equal else (_number(figure.difference), _distance(figure))
        limits = (_number(figure.tolerance) or "not declared", _number(figure.noise) or "not measured")
        rows.append((figure.name, *values, *difference, *limits))
    return columns(rows)


def _distance(figure: ComparedMetric) -> str:
    """Return the distance of two values: in ulps if it is small, else as a relative difference."""
    if figure.ulp is not None and figure.ulp <= _LARGEST_ULPS:
        return f"{figure.ulp} ulp"
    if not figure.difference or figure.a is None or figure.b is None:
        return ""
    return f"{abs(figure.difference) / max(abs(figure.a), abs(figure.b)):.2g} relative"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _outputs(outputs: tuple[int, list[OutputDifference]], limit: int | None) -> Iterator[str]:
    count, differing = outputs
    yield f"{len(differing)} of {count} differ" if differing else f"all {count} are equal"
    yield from columns([(each.path, each.detail) for each in differing[:limit]]) if differing else ()
    if limit is not None and len(differing) > limit:
        yield f"... and {len(differing) - limit} more outputs: --all shows them"


def _weights(weights: WeightsComparison, limit: int | None) -> Iterator[str]:
    count, evidence = len(weights.differing), "bytes" if weights.numbers else "digests"
    if not count:
        yield f"{all_are(weights.tensors, 'tensor')} equal, by their {evidence}"
    else:
        yield f"{count} of {weights.tensors} tensors differ"
        head = ("tensor", "dtype", "shape", "differing", "largest ulp", "largest relative error", "")
        yield from columns([head, *map(_tensor, weights.differing[:limit])])
        if limit is not None and count > limit:
            yield f"... and {count - limit} more tensors: --all shows them"
    if any(weights.frozen):
        yield f"frozen: {weights.frozen[0]} tensors in A, {weights.frozen[1]} in B"
    if weights.optimizer_tensors:
        yield f"state of the optimizer: {len(weights.optimizer)} of {weights.optimizer_tensors} tensors differ"


def _tensor(tensor: TensorDifference) -> tuple[str, ...]:
    shapes = (None if shape is None else "x".join(map(str, shape)) or "one number" for shape in tensor.shapes)
    labels = (tensor.name, _pair(*tensor.dtypes), _pair(*shapes))
    distance = tensor.apart
    if distance is None:
        return (*labels, "", "", "", "")
    counts = {
        "-0.0 against 0.0": distance.zero_signs,
        "NaN against a number": distance.nan_against_number,
        "NaN with other bits": distance.nan_payloads,
    }
    special = ", ".join(f"{count} {label}" for label, count in counts.items() if count)
    differing = f"{distance.differing} of {tensor.elements}"
    ulps = str(distance.ulp) if distance.ulp <= _LARGEST_ULPS else "many"
    return (*labels, differing, ulps, f"{distance.relative:.3g}", special)


def _pair(a: str | None, b: str | None) -> str:
    one, other = a or "absent", b or "absent"
    return one if one == other else f"{one} in A, {other} in B"
