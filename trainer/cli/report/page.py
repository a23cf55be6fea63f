"""The page of a report: its sections in order, in one file that needs no network and runs no code.

The page's content security policy forbids scripts, so that a script would not run even if an error let it into the page. One style serves
light and dark mode, wide and narrow screens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer import __version__
from trainer.cli.report.elements import lines, section
from trainer.cli.report.inputs import data, environment, files, machine, settings, source
from trainer.cli.report.plots import curves, figures, telemetry
from trainer.cli.report.result import heading, page_runs, result, verdicts
from trainer.reporting.drawing import STYLE as PLOTS
from trainer.reporting.drawing.markup import Markup, joined, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.cli.report.result import PageRun
    from trainer.comparison.compare import Comparison
    from trainer.data.declaration import Dataset
    from trainer.reporting.run_contents import RunContents

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(
    runs: Sequence[RunContents],
    comparisons: Sequence[Comparison | str],
    *,
    declared: Mapping[str, Dataset],
    samples: Mapping[str, bytes | str],
) -> str:
    """Return the report as HTML; `comparisons` compare the first run with each other run, or explain why they cannot be compared."""
    shown = page_runs(runs)
    body = [
        heading(shown),
        result(shown),
        verdicts(shown, comparisons),
        curves(shown),
        figures(shown),
        settings(shown),
        source(shown),
        data(shown, declared, samples),
        environment(shown),
        machine(shown, telemetry(shown)),
        files(shown),
        section("Not shown", lines(f"{each.prefix}{note}" for each in shown for note in each.run.notes)),
        _footer(shown),
    ]
    return f"<!doctype html>\n{tag('html', _head(shown), tag('body', *body), lang='en')}\n"


def _head(shown: Sequence[PageRun]) -> Markup:
    named = " ".join(each.record.run for each in shown[:4])
    experiments = ", ".join(dict.fromkeys(each.record.ingredients.experiment for each in shown))
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{experiments} {named}"),
        tag("style", Markup(_STYLE)),
    )


def _footer(shown: Sequence[PageRun]) -> Markup:
    first = shown[0]
    legend = " ≠ marks what differs between the runs." if len(shown) > 1 else None
    show, reproduce = (
        tag("code", f"scripts/reprise {command} {first.record.run}") for command in ("runs show", "reproduce")
    )
    rerun = joined([" No rerun has confirmed this result yet: ", reproduce, "."])
    is_untested = len(shown) == 1 and not first.run.retests and not first.run.certificates
    return tag(
        "footer", f"Made by Reprise {__version__} from what the runs recorded; every digest is complete when copied.", legend,
        " The records in full: ", show, ".", rerun if is_untested else None,
    )  # fmt: skip


_STYLE: Final = (
    """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b2027; --quiet: #5a6472; --rule: #e0e4ea; --soft: #f5f7f9;
  --mark: #2463c9;
  --good: #0b6b4f; --good-back: #dff3ea; --fair: #7a4d00; --fair-back: #fbeecf; --bad: #a4202f; --bad-back: #fbe3e4;
  --plain-back: #eaedf1;
  --add: #0b6b4f; --add-back: #e3f5ec; --cut: #a4202f; --cut-back: #fceaeb; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #10141a; --ink: #dde3ea; --quiet: #98a3b1; --rule: #2a323c; --soft: #171d25;
    --mark: #79aaff;
    --good: #6fdcb4; --good-back: #12352a; --fair: #f0c266; --fair-back: #3a2c0d; --bad: #ff9aa2; --bad-back: #401b20;
    --plain-back: #232b35;
    --add: #7fe0b9; --add-back: #11291f; --cut: #ffa4ab; --cut-back: #31171a; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 74rem; padding: 1.75rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.015em; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .9rem; padding-top: .9rem; border-top: 1px solid var(--rule); letter-spacing: -.005em; }
h3 { font-size: 1rem; margin: 1.2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 48rem; }
code, pre { font: .86em/1.55 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.under, .quiet, .command, footer { color: var(--quiet); }
.command { font-size: .93rem; }
.reason { color: var(--bad); }
ul { margin: .4rem 0; padding-left: 1.2rem; }
td ul { padding-left: 1rem; margin: 0; }
.badge { display: inline-block; vertical-align: .12em; padding: .06em .6em; border-radius: 1em; font-size: .8rem; line-height: 1.5;
  font-weight: 600; letter-spacing: 0; white-space: nowrap; background: var(--plain-back); }
.badge.good { color: var(--good); background: var(--good-back); } .badge.fair { color: var(--fair); background: var(--fair-back); }
.badge.bad { color: var(--bad); background: var(--bad-back); }
.digest { display: inline-block; max-width: 20ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: bottom; }
dl { margin: .5rem 0; }
dl > div { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 0 1rem; padding: .22rem 0; }
dt { color: var(--quiet); } dd { margin: 0; min-width: 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; }
.tiles > div { display: block; padding: 0; }
.tiles dd { font-size: 2.1rem; line-height: 1.15; font-weight: 600; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.tiles dt { font-size: .9rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: baseline; padding: .34rem 1.4rem .34rem 0; border-bottom: 1px solid var(--rule); }
td { max-width: 34rem; overflow-wrap: break-word; }
thead th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 400; white-space: nowrap; }
.given th { font-weight: 650; }
.runs th:first-child { padding-left: 1.1rem; position: relative; }
.runs tbody tr:not(.differs) td { color: var(--quiet); }
.sign { position: absolute; left: 0; color: var(--mark); font-weight: 700; }
.place { display: block; white-space: nowrap; color: var(--quiet); font-size: .88em; margin-right: .6em; }
details { margin: .6rem 0; }
details > .plots { margin: 1rem 0; }
summary { cursor: pointer; color: var(--mark); width: fit-content; max-width: 100%; }
pre { margin: .6rem 0; padding: .8rem 1rem; background: var(--soft); border-radius: 6px; overflow-x: auto; tab-size: 4; }
.scroll pre { width: max-content; min-width: 100%; overflow: visible; }
.diff { padding: .8rem 0; } .diff span { display: block; padding: 0 1rem; white-space: pre; min-height: 1.55em; }
.diff .add { color: var(--add); background: var(--add-back); } .diff .cut { color: var(--cut); background: var(--cut-back); }
.diff .file { font-weight: 650; } .diff .at { color: var(--quiet); }
.passage { white-space: pre-wrap; } .given { color: var(--quiet); } tr.given { color: inherit; }
.packages { columns: 3 17rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1.5rem 2rem; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 550; font-size: .95rem; margin-bottom: .35rem; }
.wide { grid-column: 1 / -1; }
figure img { max-width: 100%; height: auto; border-radius: 6px; image-rendering: auto; background: #fff; }
.samples { overflow-x: auto; } .samples img { min-width: 36rem; }
@media (prefers-color-scheme: dark) { figure img { filter: brightness(.88); } }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--rule); font-size: .88rem; }
@media (max-width: 40rem) {
  body { padding: 1.1rem 1rem 3rem; } h1 { font-size: 1.55rem; } .tiles { gap: .6rem 1.75rem; } .tiles dd { font-size: 1.6rem; }
  table { font-size: .82rem; } th, td { padding-right: .8rem; } .digest { max-width: 13ch; }
  .runs th:first-child { position: sticky; left: 0; z-index: 1; background: var(--paper); }
  dl:not(.tiles) > div { grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0 .8rem; } dt, dd { font-size: .93rem; }
}
@media print { body { max-width: none; } details { break-inside: avoid; } }
"""
    + PLOTS
)
