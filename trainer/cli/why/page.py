"""Format an attribution as text and as JSON. The functions print nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.cli.run_page import columns
from trainer.comparison.attribution import Match

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.comparison.attribution import Attribution, Swaps
    from trainer.comparison.trace import Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An attribution with its evidence."""

    attribution: Attribution
    difference: Difference
    """The first difference of the two runs."""
    through: int
    """The last step of the short runs."""
    unswapped: Sequence[str]
    """One line per difference that cannot be swapped."""
    notes: Sequence[str]


def page(explanation: Explanation) -> Iterator[str]:
    """Yield the attribution, then its evidence."""
    result, difference, through = explanation.attribution, explanation.difference, explanation.through
    yield headline(result, difference)
    if result.sets and result.confirmed:
        yield f"  confirmed: with that taken back, B goes A's way through step {through}"
    elif result.sets:
        yield f"  not confirmed: with that taken back, B does not go A's way through step {through}; something else bears on it too"
    what = difference.tensor or difference.quantity or "fingerprint"
    values = f"{difference.a} in A, {difference.b} in B"
    yield f"  A and B diverge at step {difference.step}, stream {difference.stream}, {what}: {values}"
    if result.matches:
        rows = [(str(swap), f"goes {match}") for swap, match in result.matches.items()]
        yield from ("", f"A with one ingredient of B, through step {through}", *(f"  {line}" for line in columns(rows)))
    if explanation.unswapped or explanation.notes:
        yield from ("", "also", *(f"  not swapped: {line}" for line in explanation.unswapped))
        yield from (f"  {line}" for line in explanation.notes)


def headline(result: Attribution, difference: Difference) -> str:
    """Return the conclusion in one line."""
    if result.failed == "A":
        return "not attributed: rerunning A here does not give the result of A, so no difference can be attributed"
    if result.failed == "B":
        return "not attributed: A with everything of B that can be swapped does not go B's way"
    first, step = result.sets[0], f"from step {difference.step} on"
    if len(result.sets) > 1:
        return f"attributed: {' or '.join(map(_names, result.sets))}: each of them alone makes the difference {step}"
    if len(first) == 1:
        return f"attributed: {_names(first)} alone makes the difference {step}"
    alone = [result.matches.get(swap) for swap in first]
    effective = [match for match in alone if match is not Match.A]
    if Match.NONE in alone:
        how = "not all of them can be run alone"
    elif not effective:
        how = "none alone"
    else:
        how = "each alone goes a third way" if len(effective) == len(first) else "not all of them alone"
    return f"attributed: {how}; together {_names(first)} make the difference {step}"


def _names(swapped: Swaps) -> str:
    return " and ".join(map(str, sorted(swapped)))


def document(explanation: Explanation) -> dict[str, Any]:
    """Return the attribution as JSON data."""
    result = explanation.attribution
    return {
        "attributed": [sorted(map(str, each)) for each in result.sets] or None,
        "confirmed": result.confirmed,
        "failed": result.failed,
        "said": headline(result, explanation.difference),
        "parting": asdict(explanation.difference),
        "through": explanation.through,
        "ways": {str(swap): match for swap, match in result.matches.items()},
        "not_swapped": list(explanation.unswapped),
        "notes": list(explanation.notes),
    }
