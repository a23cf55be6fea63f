"""The curves and figures of a report.

For one run, its losses share a plot; for several runs, each metric has a plot with one line per run. Curves are not smoothed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trainer.cli.report import elements
from trainer.cli.report.elements import fold, section
from trainer.reporting.curves import LEARNING_RATE, NORM, RATE
from trainer.reporting.drawing import PlotLine, draw, plot_lines
from trainer.reporting.drawing.markup import Markup, embedded, tag
from trainer.runs.figure import PictureFigure, TextFigure
from trainer.runs.metric_text import is_of_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.cli.report.result import PageRun
    from trainer.reporting.curves import Curves
    from trainer.reporting.run_contents import RunContents
    from trainer.runs.figure import Figure

_LOSSES: Final = ("train_loss", "train_loss_mean", "val_loss")
_MOST_PLOTS: Final = 24
"""The largest number of plots in one section."""
_TELEMETRY: Final = {
    "samples_per_second": "samples a second",
    "data_wait": "waiting for data (fraction of time)",
    "memory_gib": "memory of the process, GiB",
    "cuda_memory_gib": "most GPU memory held by torch, GiB",
    "gpu_utilisation": "GPU utilization (fraction of time)",
    "gpu_memory_gib": "memory in use on the GPU, GiB",
    "gpu_temperature_celsius": "temperature of the GPU, °C",
    "gpu_power_watts": "power of the GPU, W",
}


def curves(runs: Sequence[PageRun]) -> Markup | None:
    """Return plots of the logged metrics by step, except test metrics, then of learning rate and gradient norm."""
    plots = []
    names = {name for each in runs for name in each.run.metrics if not is_of_test(name)}
    if len(runs) == 1:
        names -= set(_LOSSES)
        if losses := [runs[0].run.metrics[name] for name in _LOSSES if name in runs[0].run.metrics]:
            plots.append(_plot(losses, title="loss", log=None))
    elif "train_loss_mean" in names:  # several noisy lines hide each other
        names -= {"train_loss"}
    for name in sorted(names, key=lambda name: (len(runs) > 1 and "loss" not in name, name)):
        lines = _overlaid(runs, name, lambda run: run.metrics)
        plots.append(_plot(lines, title=name, log=None if "loss" in name else False))
    names = {name for each in runs for name in _schedule(each.run)}
    plots += [
        _plot(_overlaid(runs, name, _schedule), title=name, log=None if name == NORM else False)
        for name in sorted(names)
    ]
    return section("Curves", tag("div", *plots[:_MOST_PLOTS], class_="plots") if plots else None)


def telemetry(runs: Sequence[PageRun]) -> Markup | None:
    """Return plots of the telemetry by step, which is about speed and not about the result."""
    plots = []
    for name in sorted({name for each in runs for name in each.run.telemetry} - {"seconds"}):
        if _rate_title(name):
            continue
        lines = _overlaid(runs, name, lambda run: run.telemetry)
        plots.append(_plot(lines, title=_TELEMETRY.get(name, name.replace("_", " ")), log=False, zero=True))
    return fold("Telemetry by step", tag("div", *plots[:_MOST_PLOTS], class_="plots") if plots else None)


def _schedule(run: RunContents) -> Curves:
    """Return learning rate and gradient norm: at every step from the trace, else from the telemetry."""
    titles = {name: NORM if name == "gradient_norm" else _rate_title(name) for name in run.telemetry}
    return run.schedule or {title: run.telemetry[name] for name, title in titles.items() if title}


def _rate_title(name: str) -> str:
    """Return the title of an optimizer's learning rate in the telemetry; an empty string for another name."""
    if name == LEARNING_RATE:
        return RATE
    return f"{RATE}, {name.removeprefix(f'{LEARNING_RATE}_')}" if name.startswith(f"{LEARNING_RATE}_") else ""


def _overlaid(runs: Sequence[PageRun], name: str, select_curves: Callable[[RunContents], Curves]) -> list[PlotLine]:
    """Return the curve `name` of each run; a run without the curve has an empty line, so that each run has the same color in all plots."""
    if len(runs) == 1:
        return [select_curves(runs[0].run)[name]]
    absent = PlotLine(name="", x=[], y=[])
    return [replace(select_curves(each.run).get(name, absent), name=each.label) for each in runs]


def _plot(lines: Sequence[PlotLine], *, title: str, log: bool | None, zero: bool = False) -> Markup:
    svg = plot_lines(lines, title=title, x_label="step", y_label="", log=log, zero=zero)
    return tag("figure", tag("figcaption", title), svg)


def figures(runs: Sequence[PageRun]) -> Markup | None:
    """Return the task's figures: figures of several runs side by side, equal figures once; samples are shown with the data."""
    names = list(dict.fromkeys(figure.name for each in runs for figure in each.run.figures if not shows_data(figure)))
    parts = [part for name in names[:_MOST_PLOTS] for part in _figures(name, runs)]
    return section("Figures", tag("div", *parts, class_="plots") if parts else None)


def shows_data(figure: Figure) -> bool:
    """Return whether a figure shows only the dataset, and nothing about the run."""
    return isinstance(figure, PictureFigure) and figure.split is None


def _figures(name: str, runs: Sequence[PageRun]) -> Iterator[Markup]:
    letters: defaultdict[tuple[str, bytes], list[str]] = defaultdict(list)
    figures: dict[tuple[str, bytes], Figure] = {}
    for each in runs:
        for figure in (figure for figure in each.run.figures if figure.name == name):
            picture = each.run.pictures.get(figure.file, b"") if isinstance(figure, PictureFigure) else b""
            key = (figure.model_dump_json(), picture)
            figures.setdefault(key, figure)
            letters[key].append(each.letter)
    for (text, picture), figure in figures.items():
        prefix = "" if len(runs) == 1 else f"{', '.join(letters[text, picture])}: "
        yield _figure(figure, picture, prefix=prefix)


def _figure(figure: Figure, picture: bytes, *, prefix: str) -> Markup:
    caption = tag("figcaption", prefix, figure.title, f" ({figure.split})" if figure.split else None)
    if isinstance(figure, TextFigure):
        start = tag("span", figure.given, class_="given") if figure.given else None
        return tag("figure", caption, tag("pre", start, figure.text, class_="passage"), class_="wide")
    if isinstance(figure, PictureFigure):
        image = embedded(picture, description=figure.title)
        absent = tag("p", f"{figure.file} does not exist, or is not a PNG of at most 2 MiB.", class_="quiet")
        captions = fold("Captions", elements.lines(figure.captions[:200]))
        return tag("figure", caption, tag("div", image, class_="samples") if image else absent, captions, class_="wide")
    return tag("figure", caption, draw(figure))
