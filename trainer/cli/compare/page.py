"""Format a comparison as text: the verdict, the first difference, the candidates, the metrics, the requirements of stronger verdicts.

The functions return lines and print nothing. Text of a record is untrusted, so control characters are escaped.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from trainer.cli.output import one_line
from trainer.cli.run_page import columns
from trainer.cli.spelling import spelled
from trainer.comparison.compare import stronger_verdicts
from trainer.comparison.trace import FILE
from trainer.comparison.verdict import Rung
from trainer.runs.differences import DifferenceKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.comparison.compare import ComparedRun, Comparison, Divergence
    from trainer.comparison.compare_weights import TensorDifference, WeightsComparison
    from trainer.comparison.verdict import Figure
    from trainer.runs.differences import Candidate

_LONGEST = 60
"""The largest number of characters of a value in a table."""
_FEW = 1 << 20
"""The largest distance in ulps that is shown as a number; a larger distance is shown as a relative difference."""


def headline(comparison: Comparison) -> str:
    """Return the verdict in one line."""
    same = "it is the same run; " if comparison.same_run else ""
    return f"{comparison.verdict.rung}: {same}{spelled(comparison.verdict.because)}"


def page(comparison: Comparison, *, most: int | None) -> Iterator[str]:
    """Yield all evidence, with at most `most` lines of each long list."""
    yield from columns([("A", *_side(comparison.a)), ("B", *_side(comparison.b))])
    if comparison.same_run:
        return
    yield from _block("determinism", _left(comparison))
    if comparison.divergence:
        yield from _block("first difference", _parting(comparison.divergence))
    yield from _candidates(comparison, most)
    if comparison.verdict.figures:
        yield from _block("result metrics", _figures(comparison.verdict.figures))
    if comparison.weights:
        yield from _block("weights", _weights(comparison.weights, most))
    lacking = [(rung.value, spelled(reason)) for rung, reason in stronger_verdicts(comparison).items()]
    yield from _block("for a stronger verdict", columns(lacking) if lacking else ())
    yield from _block("not compared", [spelled(note) for note in comparison.notes])


def _block(title: str, lines: Iterable[str]) -> Iterator[str]:
    shown = [f"  {one_line(line)}" for line in lines]
    if shown:
        yield from ("", title, *shown)


def _side(side: ComparedRun) -> tuple[str, ...]:
    record = side.record
    started = record.circumstances.timing.started
    where = str(side.folder) if side.folder else "in the store"
    return (
        record.run,
        f"attempt {record.attempt}",
        record.ingredients.experiment,
        f"{started:%Y-%m-%d %H:%M} UTC",
        where,
    )


def _left(comparison: Comparison) -> Iterator[str]:
    """Yield each side whose determinism was below the requested level at its end, with the cause."""
    for name, record in (("A", comparison.a.record), ("B", comparison.b.record)):
        if lines := record.circumstances.determinism_at_end:
            asked, more = record.ingredients.determinism.level, f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            yield f"{name} is {record.promise}, {asked} was asked for: {lines[0]}{more}"


def _parting(found: Divergence) -> Iterator[str]:
    what = f"stream {found.stream}" + (f", tensor {found.tensor}" if found.tensor else "")
    if found.by == FILE:
        yield f"step {found.step}, {what}"
    else:
        yield f"{f'after step {found.after}, ' if found.after is not None else ''}not later than step {found.step}, {what}"
    value = found.quantity or "fingerprint"
    yield f"{value}: {found.a} in A, {found.b} in B"


def _candidates(comparison: Comparison, most: int | None) -> Iterator[str]:
    """Yield the differences; if the results are identical, they are not called candidates for a cause."""
    found = comparison.candidates
    title = "differs all the same" if comparison.verdict.rung is Rung.IDENTICAL else "candidates for a cause"
    ingredients = [each for each in found if each.ingredient or each.kind is DifferenceKind.RESUMED]
    around = [each for each in found if each not in ingredients]
    if not found:
        yield from _block(title, ["nothing: all ingredients and circumstances are equal"])
    yield from _block(f"{title}: ingredients", _table(ingredients, most))
    yield from _block(f"{title}: circumstances, which should not bear on the result", _table(around, most))


def _table(found: list[Candidate], most: int | None) -> Iterator[str]:
    groups = [list(group) for _, group in groupby(found, key=lambda candidate: candidate.kind)]
    aligned = columns([_cells(candidate) for each in groups for candidate in each[:most]]) if found else iter(())
    for each in groups:
        for candidate in each[:most]:
            yield next(aligned)
            yield from (f"    {inner}" for inner in _cut(candidate.inside, None if most is None else 4 * most))
        if most is not None and len(each) > most:
            yield f"... and {len(each) - most} more of kind {each[0].kind}: --all shows them"


def _cells(candidate: Candidate) -> tuple[str, ...]:
    values = (_value(candidate.a, candidate.from_a), _value(candidate.b, candidate.from_b))
    name = "" if candidate.name == candidate.kind else candidate.name
    return (candidate.kind, name, *values)


def _value(value: str, origin: str | None) -> str:
    whole = re.sub(r"sha256:[0-9a-f]{64}", lambda digest: digest[0][:19], value)
    shown = whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]}..."
    return f"{shown} ({origin})" if origin else shown


def _cut(lines: tuple[str, ...], most: int | None) -> Iterator[str]:
    yield from lines[:most]
    if most is not None and len(lines) > most:
        yield f"... and {len(lines) - most} more lines: --all shows them"


def _figures(figures: tuple[Figure, ...]) -> Iterator[str]:
    head = ("metric", "A", "B", "B - A", "apart", "tolerance", "noise")
    yield from columns([head, *(_figure(figure) for figure in figures)])


def _figure(figure: Figure) -> tuple[str, ...]:
    sides = zip((figure.a, figure.b), figure.undefined, strict=True)
    values = tuple("undefined" if why else "absent" if value is None else repr(value) for value, why in sides)
    apart = ("equal", "") if figure.equal else (_number(figure.difference), _apart(figure))
    tolerance = _number(figure.tolerance) or "not declared"
    return (figure.name, *values, *apart, tolerance, _number(figure.noise) or "not measured")


def _apart(figure: Figure) -> str:
    """Return the distance of two values: in ulps if it is small, else as a relative difference."""
    if figure.ulp is not None and figure.ulp <= _FEW:
        return f"{figure.ulp} ulp"
    if not figure.difference or not isinstance(figure.a, float | int) or not isinstance(figure.b, float | int):
        return ""
    return f"{abs(figure.difference) / max(abs(figure.a), abs(figure.b)):.2g} relative"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _weights(found: WeightsComparison, most: int | None) -> Iterator[str]:
    how = "bytes" if found.numbers else "digests"
    count = len(found.differing)
    yield (
        f"{count} of {found.tensors} tensors differ"
        if count
        else f"all {found.tensors} tensors are equal, by their {how}"
    )
    if found.differing:
        head = ("tensor", "dtype", "shape", "differing", "largest ulp", "largest relative error", "")
        yield from columns([head, *(_tensor(tensor) for tensor in found.differing[:most])])
        if most is not None and count > most:
            yield f"... and {count - most} more tensors: --all shows them"
    if found.optimizer_tensors:
        yield f"state of the optimizer: {len(found.optimizer)} of {found.optimizer_tensors} tensors differ"


def _tensor(found: TensorDifference) -> tuple[str, ...]:
    dtype, shape = (_both(pair) for pair in (found.dtypes, found.shapes))
    if found.apart is None:
        return (found.name, dtype, shape, "", "", "", "")
    apart = found.apart
    counts = {
        "-0.0 against 0.0": apart.zero_signs,
        "NaN against a number": apart.nan_against_number,
        "NaN of other bits": apart.nan_payloads,
    }
    special = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    differing = f"{apart.differing} of {found.elements}"
    steps = str(apart.ulp) if apart.ulp <= _FEW else "many"
    return (found.name, dtype, shape, differing, steps, f"{apart.relative:.3g}", special)


def _both(pair: tuple[object, object]) -> str:
    one, other = ("absent" if value is None else _plain(value) for value in pair)
    return one if one == other else f"{one} in A, {other} in B"


def _plain(value: object) -> str:
    return "x".join(map(str, value)) or "one number" if isinstance(value, tuple) else str(value)
