"""The section of a report about sameness: verdicts, retests, certificates.

Signatures of certificates are not verified here, and the report says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.cli.certify.page import page as certificate_lines
from trainer.cli.report.parts import badge, code, diff, fold, lines, pairs, section, table
from trainer.comparison.compare import stronger_verdicts
from trainer.comparison.verdict import Rung
from trainer.reporting.drawing.markup import Markup, cut, joined, tag
from trainer.runs.differences import DifferenceKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.report.result import Shown
    from trainer.comparison.compare import Comparison
    from trainer.comparison.retest import Retest

_RUNGS: Final = {
    Rung.IDENTICAL: "good",
    Rung.WITHIN_TOLERANCE: "good",
    Rung.WITHIN_NOISE: "fair",
    Rung.DIFFERENT: "bad",
    Rung.NOT_COMPARABLE: "plain",
}
_SHORT: Final = 80
"""The largest number of lines of a diff that is shown unfolded."""


def verdicts(shown: Sequence[Shown], comparisons: Sequence[Comparison | str]) -> Markup | None:
    """Return verdicts, retests and certificates; `None` if there are none."""
    compared = [_compared(other, found, first=shown[0]) for other, found in zip(shown[1:], comparisons, strict=True)]
    confirmed = (part for each in shown for part in _confirmed(each))
    return section("Sameness", *(part for part in (*compared, *confirmed) if part is not None))


def _compared(other: Shown, found: Comparison | str, *, first: Shown) -> Markup:
    if isinstance(found, str):
        heading = tag("h3", f"{first.letter} and {other.letter} ", badge("not compared", "plain"))
        return tag("article", heading, tag("p", found))
    rung = found.verdict.rung
    lacking = [(stronger_rung.value, why) for stronger_rung, why in stronger_verdicts(found).items()]
    return tag(
        "article",
        tag("h3", f"{first.letter} and {other.letter} ", badge(rung.value, _RUNGS[rung])),
        tag("p", found.verdict.because),
        _parted(found),
        _weights(found),
        _differs(found, (first.letter, other.letter)),
        fold("For a stronger verdict", pairs(lacking)),
        lines(found.notes, kind="quiet"),
    )


def _parted(found: Comparison) -> Markup | None:
    """Return the first difference of the two runs."""
    parting = found.divergence
    if parting is None:
        return None
    place = f"step {parting.step}, {parting.stream}" + (f", {parting.tensor}" if parting.tensor else "")
    values = f"{parting.quantity or 'fingerprint'} {cut(parting.a, 40)} and {cut(parting.b, 40)}"
    return tag("p", f"First difference: {place} ({values}).")


def _weights(found: Comparison) -> Markup | None:
    """Return how many of the final tensors differ."""
    weights = found.weights
    if weights is None or not weights.differing:
        return None
    named = ", ".join(cut(tensor.name, 60) for tensor in weights.differing[:3])
    more = " and others" if len(weights.differing) > 3 else ""  # noqa: PLR2004 - those that are named
    return tag("p", f"{len(weights.differing)} of {weights.tensors} tensors differ: {named}{more}.")


def _differs(found: Comparison, letters: tuple[str, str]) -> Markup | None:
    """Return the differing ingredients and circumstances, with the diff of the code: candidates, not causes."""
    rows = [
        (
            each.kind.value,
            "" if each.name == each.kind else each.name,
            code(each.a),
            code(each.b),
            "" if each.ingredient else "circumstance",
        )
        for each in found.candidates
    ]
    listed = table(("what", "name", *letters, ""), rows[:200], said="what differs")
    inside = [
        fold(
            f"{each.kind}: {cut(each.inside[0], 120)}",
            diff(each.inside),
            opened=each.kind is DifferenceKind.CODE and len(each.inside) <= _SHORT,
        )
        for each in found.candidates
        if each.inside
    ]
    nothing = tag("p", "All ingredients and circumstances are equal.", class_="quiet")
    return joined([listed or nothing, *inside])


def _lettered(line: str, letter: str) -> str:
    """Replace the letter B of the second run in a line of a diff by the run's letter on the page."""
    return f"+++ {letter}/{line[6:]}" if line.startswith("+++ B/") else line


def _confirmed(one: Shown) -> Iterator[Markup | None]:
    rows = [_retest(each, of=one.prefix) for each in one.run.retests]
    yield table(("retest", "verdict", "device", "image", "when", "run"), rows, said="retests")
    for certified in one.run.certificates:
        tested = certified.statement.predicate
        tone = badge("holds" if tested.holds else "does not hold", "good" if tested.holds else "bad")
        signed = "signed; the signature was not checked" if certified.signed else "unsigned: its author is not verified"
        text = "\n".join(certificate_lines(certified.statement))
        place = f"runs/{one.record.run}/{certified.file}"
        yield tag(
            "article",
            tag("h3", f"{one.prefix}certificate: {tested.claim} ", tone),
            tag("p", tag("code", place), f", {signed}. ", tag("code", f"scripts/reprise verify {place}")),
            fold("What it states", tag("pre", text)),
        )


def _retest(found: Retest, *, of: str) -> tuple[object, ...]:
    verdict = badge(found.verdict, "good" if found.confirms else "bad")
    when = f"{found.when:%Y-%m-%d %H:%M} UTC"
    return f"{of}run again", verdict, found.device, found.image.value, when, tag("code", found.retest.run)
