"""Format an attribution as text. The functions return lines and print nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trainer.cli.run_page import columns
from trainer.comparison.attribution import Way

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.comparison.attribution import Attribution, Swaps
    from trainer.comparison.trace import Difference


def page(
    found: Attribution, parting: Difference, *, through: int, rest: Sequence[str], notes: Sequence[str]
) -> Iterator[str]:
    """Yield the attribution, then its evidence."""
    yield headline(found, parting)
    if found.sets and found.confirmed:
        yield f"  confirmed: with that taken back, B goes A's way through step {through}"
    elif found.sets:
        yield f"  not confirmed: with that taken back, B does not go A's way through step {through}; something else bears on it too"
    what = parting.tensor or parting.quantity or "fingerprint"
    values = f"{parting.a} in A, {parting.b} in B"
    yield f"  A and B diverge at step {parting.step}, stream {parting.stream}, {what}: {values}"
    if found.ways:
        yield ""
        yield f"A with one ingredient of B, through step {through}"
        yield from (f"  {line}" for line in columns([(str(swap), f"goes {way}") for swap, way in found.ways.items()]))
    if rest or notes:
        yield ""
        yield "also"
        yield from (f"  not swapped: {line}" for line in rest)
        yield from (f"  {line}" for line in notes)


def headline(found: Attribution, parting: Difference) -> str:
    """Return the conclusion in one line."""
    if found.failed == "A":
        return "not attributed: rerunning A here does not give the result of A, so no difference can be attributed"
    if found.failed == "B":
        return "not attributed: A with everything of B that can be swapped does not go B's way"
    step = f"makes the difference from step {parting.step} on"
    if len(found.sets) > 1:
        return f"attributed: {' or '.join(named(each) for each in found.sets)}: each of them alone {step}"
    if len(found.sets[0]) == 1:
        return f"attributed: {named(found.sets[0])} alone {step}"
    changing = [swap for swap in found.sets[0] if found.ways.get(swap) is not Way.A]
    ways = {found.ways.get(swap) for swap in found.sets[0]}
    if Way.NONE in ways:
        alone = "not all of them can be run alone"
    elif not changing:
        alone = "none alone"
    else:
        alone = "each alone goes a third way" if len(changing) == len(found.sets[0]) else "not all of them alone"
    return f"attributed: {alone}; together {named(found.sets[0])} make the difference from step {parting.step} on"


def named(swapped: Swaps) -> str:
    """Return the names of some ingredients."""
    return " and ".join(map(str, sorted(swapped)))


def document(
    found: Attribution, parting: Difference, *, through: int, rest: Sequence[str], notes: Sequence[str]
) -> dict[str, Any]:
    """Return the attribution as JSON data."""
    return {
        "attributed": [sorted(map(str, each)) for each in found.sets] or None,
        "confirmed": found.confirmed,
        "failed": found.failed,
        "said": headline(found, parting),
        "parting": asdict(parting),
        "through": through,
        "ways": {str(swap): way for swap, way in found.ways.items()},
        "not_swapped": list(rest),
        "notes": list(notes),
    }
