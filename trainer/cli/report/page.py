"""The page of a report: its sections in order, in one file that needs no network and runs no code.

The page's content security policy forbids scripts, so that a script would not run even if an error let it into the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer import __version__
from trainer.cli.report import around, plots, sameness
from trainer.cli.report import result as results
from trainer.cli.report import settings as chosen
from trainer.cli.report.parts import lines, section
from trainer.cli.report.style import STYLE
from trainer.reporting.drawing.markup import Markup, joined, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.comparison.compare import Comparison
    from trainer.data.declaration import Dataset
    from trainer.reporting.gather import Gathered

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(
    runs: Sequence[Gathered],
    comparisons: Sequence[Comparison | str],
    *,
    declared: Mapping[str, Dataset],
    samples: Mapping[str, bytes | str],
) -> str:
    """Return the report as HTML; `comparisons` compare the first run with each other run, or explain why they cannot be compared."""
    shown = results.lettered(runs)
    body = [
        results.heading(shown),
        results.result(shown),
        sameness.verdicts(shown, comparisons),
        plots.curves(shown),
        plots.figures(shown),
        chosen.settings(shown),
        chosen.source(shown),
        around.data(shown, declared, samples),
        around.environment(shown),
        around.machine(shown, plots.telemetry(shown)),
        around.files(shown),
        section("Not shown", lines(f"{each.prefix}{note}" for each in shown for note in each.run.notes)),
        _footer(shown),
    ]
    return f"<!doctype html>\n{tag('html', _head(shown), tag('body', *body), lang='en')}\n"


def _head(shown: Sequence[results.Shown]) -> Markup:
    named = " ".join(each.record.run for each in shown[:4])
    experiments = ", ".join(dict.fromkeys(each.record.ingredients.experiment for each in shown))
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{experiments} {named}"),
        tag("style", Markup(STYLE)),
    )


def _footer(shown: Sequence[results.Shown]) -> Markup:
    first = shown[0]
    several = " ≠ marks what differs between the runs." if len(shown) > 1 else None
    untested = len(shown) == 1 and not first.run.retests and not first.run.certificates
    rerun = joined([" No rerun has confirmed this result yet: ", _typed(f"reproduce {first.record.run}"), "."])
    return tag(
        "footer", f"Made by Reprise {__version__} from what the runs recorded; every digest is complete when copied.", several,
        " The records in full: ", _typed(f"runs show {first.record.run}"), ".", rerun if untested else None,
    )  # fmt: skip


def _typed(words: str) -> Markup:
    return tag("code", f"scripts/reprise {words}")
