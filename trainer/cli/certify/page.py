"""Format a certificate as text. The functions return lines and print nothing.

A certificate is untrusted, so control characters are escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.suggestions import counted
from trainer.cli.run_page import columns
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.comparison.certificate import FailureCause, Predicate, Statement


def page(statement: Statement) -> Iterator[str]:
    """Yield the claim and its result, then the inputs."""
    tested = statement.predicate
    yield f"{tested.claim} {'holds' if tested.holds else 'does not hold'}: {_summary(tested)}"
    if tested.lost:
        yield f"  first not the same: {_lost(tested, tested.lost)}"
    made = tested.ingredients
    rows = [
        ("experiment", made.experiment),
        ("runs", ", ".join(statement.runs)),
        ("identity", tested.identity),
        ("level", f"{made.determinism.level}, {counted(made.determinism.threads, 'thread')}"),
        ("device", f"{tested.device}, {made.device.precision}"),
        ("image", _image(tested)),
        ("code", f"{made.source}, commit {tested.commit}"),
        ("datasets", ", ".join(f"{name}@{each.version} {each.content[:19]}" for name, each in made.datasets.items())),
        (
            "settings",
            ", ".join(f"{name}={value}" for name, value in sorted(made.settings.items()) if value is not None),
        ),
        ("tested", f"{tested.when:%Y-%m-%d %H:%M} UTC, by Reprise {tested.reprise}"),
    ]
    yield from (f"  {line}" for line in columns(rows))


def _summary(tested: Predicate) -> str:
    how = (
        f"killed after step {tested.killed_after}, resumed from step {tested.resumed_from}, "
        f"{counted(tested.observed or 0, 'step')} after that, {tested.steps} in all"
        if tested.claim == "resume"
        else f"twice from nothing, {counted(tested.steps, 'step')}"
    )
    came = f"equal bit for bit: {', '.join(tested.compared)}" if tested.holds else f"the verdict is {tested.verdict}"
    return f"{how}; {came}"


def _lost(tested: Predicate, lost: FailureCause) -> str:
    where = f", at step {lost.step}, stream {lost.stream}" if lost.step is not None else ""
    tensor = f", tensor {lost.tensor}" if lost.tensor else ""
    one, other = ("without the stop", "with it") if tested.claim == "resume" else ("first", "then")
    values = f": {lost.a} {one}, {lost.b} {other}" if lost.a is not None else ""
    return f"{lost.what}{where}{tensor}{values}"


def _image(tested: Predicate) -> str:
    image = tested.image
    if image.known is Knowledge.UNKNOWN:
        return f"unknown: {image.reason or 'nothing was provided'}"
    return (
        f"{image.environment or 'no environment'}, {image.reference or image.manifest or image.config} ({image.known})"
    )
