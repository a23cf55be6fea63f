"""The section of a report about comparisons with other runs: verdicts, retests, certificates.

Signatures of certificates are not verified here, and the report says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.cli.report.elements import badge, code, diff, fold, lines, pairs, section, table
from trainer.cli.verify import page as certificate_lines
from trainer.comparison.compare import stronger_verdicts
from trainer.comparison.verdict import Rung
from trainer.reporting.drawing.markup import Markup, cut, tag
from trainer.runs.differences import DifferenceKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.report.result import PageRun
    from trainer.comparison.compare import Comparison

_RUNGS: Final = {
    Rung.IDENTICAL: "good",
    Rung.WITHIN_TOLERANCE: "good",
    Rung.WITHIN_NOISE: "fair",
    Rung.DIFFERENT: "bad",
    Rung.NOT_COMPARABLE: "plain",
}
_UNFOLDED: Final = 80
"""The largest number of lines of a diff that is shown unfolded."""


def verdicts(runs: Sequence[PageRun], comparisons: Sequence[Comparison | str]) -> Markup | None:
    """Return verdicts, retests and certificates; `None` if there are none."""
    compared = [_verdict(other, found, first=runs[0]) for other, found in zip(runs[1:], comparisons, strict=True)]
    return section("Sameness", *compared, *(part for each in runs for part in _documents(each)))


def _verdict(other: PageRun, comparison: Comparison | str, *, first: PageRun) -> Markup:
    title = f"{first.letter} and {other.letter} "
    if isinstance(comparison, str):
        return tag("article", tag("h3", title, badge("not compared", "plain")), tag("p", comparison))
    rung = comparison.verdict.rung
    lacking = [(stronger.value, why) for stronger, why in stronger_verdicts(comparison).items()]
    return tag(
        "article",
        tag("h3", title, badge(rung.value, _RUNGS[rung])),
        tag("p", comparison.verdict.because),
        *_first_differences(comparison),
        *_candidates(comparison, (first.letter, other.letter)),
        fold("For a stronger verdict", pairs(lacking)),
        lines(comparison.notes, kind="quiet"),
    )


def _first_differences(comparison: Comparison) -> Iterator[Markup]:
    """Yield the first step that differs, and how many of the final tensors differ."""
    if found := comparison.divergence:
        place = f"step {found.step}, {found.stream}" + (f", {found.tensor}" if found.tensor else "")
        values = f"{found.quantity or 'fingerprint'} {cut(found.a, 40)} and {cut(found.b, 40)}"
        yield tag("p", f"First difference: {place} ({values}).")
    if (weights := comparison.weights) and weights.differing:
        names = ", ".join(cut(tensor.name, 60) for tensor in weights.differing[:3])
        more = " and others" if len(weights.differing) > 3 else ""  # noqa: PLR2004 - those that are named
        yield tag("p", f"{len(weights.differing)} of {weights.tensors} tensors differ: {names}{more}.")


def _candidates(comparison: Comparison, letters: tuple[str, str]) -> Iterator[Markup | None]:
    """Yield the differing ingredients and circumstances, with the diff of the code: candidates, not causes."""
    rows = []
    for each in comparison.candidates[:200]:
        name, kind = "" if each.name == each.kind else each.name, "" if each.ingredient else "circumstance"
        rows.append((each.kind.value, name, code(each.a), code(each.b), kind))
    nothing = tag("p", "All ingredients and circumstances are equal.", class_="quiet")
    yield table(("what", "name", *letters, ""), rows, label="what differs") or nothing
    for each in comparison.candidates:
        if each.inside:
            is_open = each.kind is DifferenceKind.CODE and len(each.inside) <= _UNFOLDED
            yield fold(f"{each.kind}: {cut(each.inside[0], 120)}", diff(each.inside), opened=is_open)


def _documents(run: PageRun) -> Iterator[Markup | None]:
    """Yield the run's retests and certificates."""
    rows = [
        (
            f"{run.prefix}run again",
            badge(each.verdict, "good" if each.confirms else "bad"),
            each.device,
            each.image.value,
            f"{each.when:%Y-%m-%d %H:%M} UTC",
            tag("code", each.retest.run),
        )
        for each in run.run.retests
    ]
    yield table(("retest", "verdict", "device", "image", "when", "run"), rows, label="retests")
    for certificate in run.run.certificates:
        predicate = certificate.statement.predicate
        holds = badge("holds", "good") if predicate.holds else badge("does not hold", "bad")
        signed = (
            "signed; the signature was not checked" if certificate.signed else "unsigned: its author is not verified"
        )
        text = "\n".join(certificate_lines(certificate.statement))
        place = f"runs/{run.record.run}/{certificate.file}"
        yield tag(
            "article",
            tag("h3", f"{run.prefix}certificate: {predicate.claim} ", holds),
            tag("p", tag("code", place), f", {signed}. ", tag("code", f"scripts/reprise verify {place}")),
            fold("What it states", tag("pre", text)),
        )
