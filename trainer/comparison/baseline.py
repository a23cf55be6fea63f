"""A baseline: what an experiment came to at small scale, in one environment; and whether it still does. Format `reprise.baseline/1`.

Knows how a result is compared with a baseline, and whether that was written with this code and in this environment. Refuses to train.

An environment is named by its lock, its Python and its class of device: where one of these is another, another baseline counts. The image
is evidence only. The same seed is trained again, so that nothing but rounding may move a result: how far that goes is learned from
trainings whose initial weights were moved in their last bits. A metric that rounding does not move, as an accuracy, has the largest
difference that other seeds explain (`trainer.comparison.noise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import stdev
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, FiniteFloat

from trainer.base.digest import Digest, canonical, digest_of_document, digest_of_file
from trainer.base.document import Document
from trainer.comparison.noise import student

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FORMAT: Final = "reprise.baseline/1"
FOLDER: Final = "tests/baselines"
LEAST: Final = 0.01
"""The smallest tolerance, as a part of the value: where all seeds come to the same, one sample more or less is no change."""
SAFE: Final = 10
"""How many times what nudges came to rounding may come to: three nudges are few, and other kernels round otherwise at every step."""
FINEST: Final = 1e-4
"""The least that rounding may come to, as a part of the value."""


class Key(Document):
    """An environment."""

    lock: Digest
    python: str
    """As `3.11`."""
    device: str
    """The CPU's model, or the GPU's."""

    def unlike(self, other: Key) -> list[str]:
        """Name what is not equal."""
        return [name for name in Key.model_fields if getattr(self, name) != getattr(other, name)]


class Level(Document):
    """A metric: its value with the first seed, and how far from it is no change."""

    value: FiniteFloat
    tolerance: FiniteFloat
    """What other seeds explain."""
    rounding: FiniteFloat | None = None
    """What rounding explains; none where it does not move the metric, or was not measured."""

    @property
    def allowed(self) -> float:
        """How far from the value is no change."""
        return self.tolerance if self.rounding is None else self.rounding


class Entry(Document):
    """What an environment came to."""

    key: Key
    image: str | None
    """The image it was made in, as it names itself; none in an environment of the machine's own."""
    code: Digest
    """Names the source of `trainer/training/` and of the experiment, and the dataset's declaration."""
    imported: Digest | None = Field(default=None, exclude_if=lambda code: code is None)
    """Names every file of the checkout that was imported; none in entries of earlier versions."""
    seeds: int
    metrics: dict[str, Level]
    why: str
    """Why it was written: what a person said."""


class Baseline(Document):
    """An experiment's entries, one for each environment."""

    format: Literal["reprise.baseline/1"] = FORMAT
    experiment: str
    entries: list[Entry]

    def to_json(self) -> bytes:
        """Write it, a line for each entry: git shows which one moved."""
        head = canonical({"experiment": self.experiment, "format": self.format})[:-1]
        lines = b",\n".join(canonical(entry.model_dump(mode="json")) for entry in self.entries)
        return head + b',"entries":[\n' + lines + b"\n]}\n"

    def nearest(self, key: Key) -> Entry | None:
        """Give the entry of this environment, else of the one that is most like it, the last written first."""
        latest_first = self.entries[::-1]
        return min(latest_first, key=lambda entry: len(entry.key.unlike(key)), default=None)

    def with_entry(self, entry: Entry) -> Baseline:
        """Put an entry in the place of the one of its environment."""
        others = [each for each in self.entries if each.key != entry.key]
        return self.model_copy(update={"entries": [*others, entry]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a result is what the baseline says, and with which code and where the baseline was written."""

    holds: bool
    said: str
    moved: list[str]
    """A line for each metric that is not what it was; with `!` in front if it is beyond its tolerance."""
    same_code: bool
    """Whether the entry was written with this state of the code."""


def judged(
    entry: Entry, *, key: Key, code: str, metrics: Mapping[str, float], imported: str | None = None
) -> Judgement:
    """Compare a result with an entry, perhaps of another environment; say of what state of the code and where the entry is.

    `imported` names the code that was imported, more exactly than `code` does; it counts if the entry has it too.
    """
    moved = list(_moved(entry, metrics))
    holds = bool(entry.metrics) and not any(line.startswith("!") for line in moved)
    equal = imported == entry.imported if imported and entry.imported else code == entry.code
    with_code = "with this code" if equal else "with another state of the code"
    unlike = entry.key.unlike(key)
    where = f"in another environment ({', '.join(unlike)})" if unlike else "in this environment"
    return Judgement(
        holds=holds,
        said=f"{_how(entry, metrics)}; the baseline was written {with_code}, {where}",
        moved=moved,
        same_code=equal,
    )


def _how(entry: Entry, metrics: Mapping[str, float]) -> str:
    """How far the metric that has moved most is from where it was."""
    if not entry.metrics:
        return "nothing was compared: the baseline holds no metric"
    apart = {name: _apart(metrics.get(name, inf), level) for name, level in entry.metrics.items()}
    if any(each > max(level.allowed, level.tolerance) for each, level in _paired(apart, entry)):
        return "beyond what seeds explain"
    if any(each > level.allowed for each, level in _paired(apart, entry)):
        return "beyond what rounding explains, within what seeds do: other numbers are computed, or drawn"
    if any(each > (level.rounding or 0) for each, level in _paired(apart, entry)):
        return "within what seeds explain"
    return "within what rounding explains" if any(apart.values()) else "as it was, bit for bit"


def _apart(value: float, level: Level) -> float:
    """Give the distance from what was learned; a value that is NaN is infinitely far."""
    return inf if not isfinite(value) else abs(value - level.value)


def _paired(apart: Mapping[str, float], entry: Entry) -> Iterator[tuple[float, Level]]:
    return ((apart[name], level) for name, level in entry.metrics.items())


def levels(results: Sequence[Mapping[str, float]], nudged: Sequence[Mapping[str, float]] = ()) -> dict[str, Level]:
    """Learn values and tolerances of the results of several seeds, the first of which is the one that is trained again.

    `nudged` are results of that seed where only the last bits of the initial weights were others.

    >>> levels([{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}])["loss"].value
    1.0
    >>> levels([{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}], [{"loss": 1.0 + 2**-10}])["loss"].rounding
    0.009765625
    """
    found: dict[str, Level] = {}
    for name, value in sorted(results[0].items()):
        values = [each[name] for each in results if isfinite(each.get(name, float("nan")))]
        if len(values) == len(results):
            explained = student(len(values) - 1) * stdev(values) * sqrt(2)
            tolerance, rounding = max(explained, LEAST * abs(value)), _rounding(name, value, nudged)
            at_most = None if rounding is None else min(rounding, tolerance)
            found[name] = Level(value=value, tolerance=tolerance, rounding=at_most)
    return found


def _rounding(name: str, value: float, nudged: Sequence[Mapping[str, float]]) -> float | None:
    """What rounding explains; none where it moves nothing: then a sample that falls on the other side moves much at once."""
    apart = max((abs(each.get(name, inf) - value) for each in nudged), default=0.0)
    return max(SAFE * apart, FINEST * abs(value)) if apart and isfinite(apart) else None


def code_of(root: Path, *files: Path) -> str:
    """Name the source of trainings, without that of experiments, and these files with it: the experiment, the dataset's declaration."""
    paths = [*sorted((root / "trainer/training").rglob("*.py")), *files]
    named = {str(path.relative_to(root) if path.is_relative_to(root) else path.name): path for path in paths}
    return digest_of_document({name: digest_of_file(path) for name, path in named.items()})


def _moved(entry: Entry, metrics: Mapping[str, float]) -> Iterator[str]:
    for name, level in entry.metrics.items():
        value = metrics.get(name)
        if value is None:
            yield f"! {name}: {level.value:.6g} before, not measured now"
        elif value != level.value:
            apart = _apart(value, level)
            beyond = "" if apart <= level.allowed else "! "
            rounded = "" if level.rounding is None else f"rounding explains {level.rounding:.3g}, "
            yield (
                f"{beyond}{name}: {level.value:.6g} before, {value:.6g} now; apart {apart:.3g}, "
                f"{rounded}seeds {'explain ' if level.rounding is None else ''}{level.tolerance:.3g}"
            )
    yield from (
        f"{name}: {metrics[name]:.6g} now, not measured before"
        for name in sorted(metrics.keys() - entry.metrics.keys())
    )
