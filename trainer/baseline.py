"""A baseline: what an experiment came to at small scale, in one environment; and whether it still does. Format `reprise.baseline/1`.

Knows how a result is held against a baseline, and what has changed since, environment or code. Refuses to train.

An environment is named by its lock, its Python and its class of device: where one of these is another, another baseline counts. The image
is evidence only. The tolerance of a metric is the largest difference that other seeds explain (`trainer.sameness.noise`): a change of
code that draws other random numbers stays within it nineteen times of twenty.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import stdev
from typing import TYPE_CHECKING, Final, Literal

from pydantic import FiniteFloat

from trainer.digest import Digest, canonical, digest_of_document, digest_of_file
from trainer.document import Document
from trainer.sameness.noise import student

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FORMAT: Final = "reprise.baseline/1"
FOLDER: Final = "tests/baselines"
LEAST: Final = 0.01
"""The smallest tolerance, as a part of the value: where all seeds come to the same, one sample more or less is no change."""


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


class Entry(Document):
    """What an environment came to."""

    key: Key
    image: str | None
    """The image it was made in, as it names itself; none in an environment of the machine's own."""
    code: Digest
    """Names the source of `trainer/training/` and of the experiment, and the dataset's declaration."""
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
    """Whether a result is what the baseline says, and what has changed since."""

    holds: bool
    said: str
    moved: list[str]
    """A line for each metric that is not what it was; with `!` in front where it is beyond its tolerance."""


def judged(entry: Entry, *, key: Key, code: str, metrics: Mapping[str, float]) -> Judgement:
    """Hold a result against an entry, perhaps of another environment."""
    moved = list(_moved(entry, metrics))
    holds = not any(line.startswith("!") for line in moved)
    changed = [*(f"{name} (environment)" for name in entry.key.unlike(key)), *(["code"] if code != entry.code else [])]
    if not changed:
        since = "neither environment nor code has changed"
    elif changed == ["code"]:
        since = "the code has changed, the environment has not"
    elif "code" not in changed:
        since = f"the environment alone has changed: {', '.join(entry.key.unlike(key))}"
    else:
        since = f"both have changed, the code and of the environment {', '.join(entry.key.unlike(key))}"
    how = (
        "as it was, bit for bit"
        if not moved
        else ("within what seeds explain" if holds else "beyond what seeds explain")
    )
    return Judgement(holds=holds, said=f"{how}; {since}", moved=moved)


def levels(results: Sequence[Mapping[str, float]]) -> dict[str, Level]:
    """Learn values and tolerances of the results of several seeds, the first of which is the one that is trained again.

    >>> levels([{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}])["loss"].value
    1.0
    """
    found: dict[str, Level] = {}
    for name, value in sorted(results[0].items()):
        values = [each[name] for each in results if isfinite(each.get(name, float("nan")))]
        if len(values) == len(results):
            explained = student(len(values) - 1) * stdev(values) * sqrt(2)
            found[name] = Level(value=value, tolerance=max(explained, LEAST * abs(value)))
    return found


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
            apart = abs(value - level.value)
            beyond = "" if apart <= level.tolerance else "! "
            yield f"{beyond}{name}: {level.value:.6g} before, {value:.6g} now; apart {apart:.3g}, seeds explain {level.tolerance:.3g}"
    yield from (
        f"{name}: {metrics[name]:.6g} now, not measured before"
        for name in sorted(metrics.keys() - entry.metrics.keys())
    )
