"""The curves and figures of a report.

For one run, its losses share a plot; for several runs, each metric has a plot with one line per run. Curves are not smoothed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trainer.cli.report.parts import fold, lines, section
from trainer.reporting.curves import NORM, RATE
from trainer.reporting.drawing import Line, draw, plot_lines
from trainer.reporting.drawing.markup import Markup, tag
from trainer.reporting.drawing.pictures import embedded
from trainer.runs.figure import Passage, Pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.cli.report.result import Shown
    from trainer.reporting.curves import Curves
    from trainer.reporting.gather import Gathered
    from trainer.runs.figure import Figure

_LOSSES: Final = ("train_loss", "train_loss_mean", "val_loss")
_MOST: Final = 24
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


def curves(shown: Sequence[Shown]) -> Markup | None:
    """Return the logged metrics by step, then learning rate and gradient norm."""
    plots = list(_of_one(shown[0].run) if len(shown) == 1 else _of_several(shown))
    return section("Curves", tag("div", *plots[:_MOST], class_="plots") if plots else None)


def telemetry(shown: Sequence[Shown]) -> Markup | None:
    """Return the telemetry by step, which is about speed and not about the result."""
    names = sorted({name for each in shown for name in each.run.telemetry})
    plots = [
        _plot(
            _overlaid(shown, name, lambda run: run.telemetry),
            title=_TELEMETRY.get(name, name.replace("_", " ")),
            log=False,
            zero=True,
        )
        for name in names
        if name not in {"seconds", "learning_rate"}
    ]
    return fold("Telemetry by step", tag("div", *plots[:_MOST], class_="plots") if plots else None)


def _of_one(run: Gathered) -> Iterator[Markup]:
    losses = [run.metrics[name] for name in _LOSSES if name in run.metrics]
    if losses:
        yield _plot(losses, title="loss", log=None)
    for name in sorted(run.metrics):
        if name not in _LOSSES and not name.startswith("test_"):
            yield _plot([run.metrics[name]], title=name, log=None if "loss" in name else False)
    for name, line in sorted(_schedule(run).items()):
        yield _scheduled(name, [line])


def _of_several(shown: Sequence[Shown]) -> Iterator[Markup]:
    """Yield one plot per metric; for the training loss only its mean per epoch, since several noisy lines hide each other."""
    names = {name for each in shown for name in each.run.metrics if not name.startswith("test_")}
    names -= {"train_loss"} if "train_loss_mean" in names else set()
    for name in sorted(names, key=lambda name: ("loss" not in name, name)):
        lines_ = _overlaid(shown, name, lambda run: run.metrics)
        yield _plot(lines_, title=name, log=None if "loss" in name else False)
    for name in sorted({name for each in shown for name in _schedule(each.run)}):
        yield _scheduled(name, _overlaid(shown, name, _schedule))


def _schedule(run: Gathered) -> Curves:
    """Return learning rate and gradient norm: at every step from the trace, else from the telemetry."""
    told = {"learning_rate": RATE, "gradient_norm": NORM}
    return run.schedule or {told[name]: line for name, line in run.telemetry.items() if name in told}


def _scheduled(name: str, lines_: Sequence[Line]) -> Markup:
    return _plot(lines_, title=name, log=None if name == NORM else False)


def _overlaid(shown: Sequence[Shown], name: str, of: Callable[[Gathered], Curves]) -> list[Line]:
    """Return the same curve of each run; a run without the curve has an empty line, so that the colors stay the same."""
    if len(shown) == 1:
        return [of(shown[0].run)[name]]
    absent = Line(name="", x=[], y=[])
    return [replace(of(each.run).get(name, absent), name=each.label) for each in shown]


def _plot(lines_: Sequence[Line], *, title: str, log: bool | None, zero: bool = False) -> Markup:
    svg = plot_lines(lines_, title=title, x_label="step", y_label="", log=log, zero=zero)
    return tag("figure", tag("figcaption", title), svg)


def figures(shown: Sequence[Shown]) -> Markup | None:
    """Return the task's figures: figures of several runs side by side, equal figures once; samples are shown with the data."""
    names = list(dict.fromkeys(figure.name for each in shown for figure in each.run.figures if not is_of_data(figure)))
    found = [part for name in names[:_MOST] for part in _named(name, shown)]
    return section("Figures", tag("div", *found, class_="plots") if found else None)


def is_of_data(figure: Figure) -> bool:
    """Return whether a figure shows the dataset only and nothing of the run."""
    return isinstance(figure, Pictures) and figure.split is None


def _named(name: str, shown: Sequence[Shown]) -> Iterator[Markup]:
    equal: dict[tuple[str, bytes], list[tuple[Shown, Figure]]] = {}
    for each in shown:
        for figure in each.run.figures:
            if figure.name == name:
                picture = each.run.pictures.get(figure.file, b"") if isinstance(figure, Pictures) else b""
                equal.setdefault((figure.model_dump_json(), picture), []).append((each, figure))
    for (_, picture), of in equal.items():
        whose = "" if len(shown) == 1 else f"{', '.join(each.letter for each, _ in of)}: "
        yield _figure(of[0][1], picture, whose=whose)


def _figure(figure: Figure, picture: bytes, *, whose: str) -> Markup:
    caption = tag("figcaption", whose, figure.title, f" ({figure.split})" if figure.split else None)
    if isinstance(figure, Passage):
        given = tag("span", figure.given, class_="given") if figure.given else None
        return tag("figure", caption, tag("pre", given, figure.text, class_="passage"), class_="wide")
    if isinstance(figure, Pictures):
        image = embedded(picture, said=figure.title)
        absent = tag("p", f"{figure.file} is not here, or is no PNG of at most 2 MiB.", class_="quiet")
        told = fold("Captions", lines(figure.captions[:200]))
        return tag("figure", caption, tag("div", image, class_="samples") if image else absent, told, class_="wide")
    return tag("figure", caption, draw(figure))
