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
    tested, ingredients = statement.predicate, statement.predicate.ingredients
    yield f"{tested.claim} {'holds' if tested.holds else 'does not hold'}: {_summary(tested)}"
    if tested.lost:
        yield f"  first not the same: {_cause(tested, tested.lost)}"
    datasets = (f"{name}@{each.version} {each.content[:19]}" for name, each in ingredients.datasets.items())
    settings = (f"{name}={value}" for name, value in sorted(ingredients.settings.items()) if value is not None)
    image, level = tested.image, ingredients.determinism
    identifier = f"{image.environment or 'no environment'}, {image.reference or image.manifest or image.config}"
    is_unknown = image.known is Knowledge.UNKNOWN
    rows = [
        ("experiment", ingredients.experiment),
        ("runs", ", ".join(statement.runs)),
        ("identity", tested.identity),
        ("level", f"{level.level}, {counted(level.threads, 'thread')}"),
        ("device", f"{tested.device}, {ingredients.device.precision}"),
        (
            "image",
            f"unknown: {image.reason or 'nothing was provided'}" if is_unknown else f"{identifier} ({image.known})",
        ),
        ("code", f"{ingredients.source}, commit {tested.commit}"),
        ("datasets", ", ".join(datasets)),
        ("settings", ", ".join(settings)),
        ("tested", f"{tested.when:%Y-%m-%d %H:%M} UTC, by Reprise {tested.reprise}"),
    ]
    yield from (f"  {line}" for line in columns(rows))


def _summary(tested: Predicate) -> str:
    result = f"equal bit for bit: {', '.join(tested.compared)}" if tested.holds else f"the verdict is {tested.verdict}"
    if tested.claim == "rerun":
        return f"twice from nothing, {counted(tested.steps, 'step')}; {result}"
    after = f"{counted(tested.observed or 0, 'step')} after that, {tested.steps} in all"
    return f"killed after step {tested.killed_after}, resumed from step {tested.resumed_from}, {after}; {result}"


def _cause(tested: Predicate, cause: FailureCause) -> str:
    place = f", at step {cause.step}, stream {cause.stream}" if cause.step is not None else ""
    tensor = f", tensor {cause.tensor}" if cause.tensor else ""
    one, other = ("without the stop", "with it") if tested.claim == "resume" else ("first", "then")
    values = f": {cause.a} {one}, {cause.b} {other}" if cause.a is not None else ""
    return f"{cause.what}{place}{tensor}{values}"
