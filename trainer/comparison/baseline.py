"""Baselines: an experiment's small-scale results, one per environment, and the comparison of later results with them.

Format `reprise.baseline/1`. An environment is identified by its lock, its Python version and its class of device; each environment has its
own baseline. The image is recorded as evidence only. The same seed is trained again, so only rounding may change a result. The effect of
rounding is measured by runs whose initial weights were changed in their last bits. For a metric that rounding does not change, such
as an accuracy, the limit is the largest difference that other seeds explain (`trainer.comparison.noise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, FiniteFloat

from trainer.base.digest import Digest, canonical, digest_of_document, digest_of_file
from trainer.base.document import Document
from trainer.comparison.noise import seed_difference
from trainer.comparison.saved_document import SavedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FORMAT: Final = "reprise.baseline/1"
FOLDER: Final = "tests/baselines"
LEAST: Final = 0.01
"""The smallest tolerance, as a fraction of the value: if all seeds have equal results, a difference of a single sample is no change."""
SAFE: Final = 10
"""The factor from the measured effect of rounding to its limit: few nudges are measured, and other kernels round otherwise at each step."""
FINEST: Final = 1e-4
"""The smallest limit for rounding, as a fraction of the value."""


class EnvironmentKey(Document):
    """The identity of an environment."""

    lock: Digest
    python: str
    """For example `3.11`."""
    device: str
    """The model of the CPU or GPU."""

    def differing_fields(self, other: EnvironmentKey) -> list[str]:
        """Return the names of the fields that differ."""
        return [name for name in EnvironmentKey.model_fields if getattr(self, name) != getattr(other, name)]


class MetricLevel(Document):
    """A metric: its value with the first seed, and the differences that count as no change."""

    value: FiniteFloat
    tolerance: FiniteFloat
    """The largest difference that other seeds explain, at least `LEAST` of the value."""
    rounding: FiniteFloat | None = None
    """The largest difference that rounding explains; `None` if rounding does not change the metric or was not measured."""

    @property
    def allowed(self) -> float:
        """The largest difference from the value that counts as no change."""
        return self.tolerance if self.rounding is None else self.rounding

    def distance(self, value: float) -> float:
        """Return the distance from the recorded value; infinity if `value` is not finite."""
        return abs(value - self.value) if isfinite(value) else inf

    def severity(self, value: float) -> int:
        """Return the index in `_SUMMARIES` of the sentence about the change to `value`."""
        limits = (0, self.rounding or 0, self.allowed, max(self.allowed, self.tolerance))
        return sum(self.distance(value) > limit for limit in limits)


class BaselineEntry(Document):
    """The results of an experiment in one environment."""

    key: EnvironmentKey
    image: str | None
    """The identifier of the image; `None` if the run used the machine's own environment."""
    code: Digest
    """The digest of `trainer/training/`, the experiment and the declarations of the datasets."""
    imported: Digest | None = Field(default=None, exclude_if=lambda code: code is None)
    """The digest of the imported files of the checkout; `None` in entries of earlier versions."""
    seeds: int
    metrics: dict[str, MetricLevel]
    why: str
    """The reason that the user gave for writing the entry."""


class Baseline(SavedDocument):
    """An experiment's entries, one per environment."""

    format: Literal["reprise.baseline/1"] = FORMAT
    experiment: str
    entries: list[BaselineEntry]

    def to_json(self) -> bytes:
        """Serialize with one line per entry, so that a git diff shows which entry changed."""
        head = canonical({"experiment": self.experiment, "format": self.format})[:-1]
        lines = b",\n".join(canonical(entry.model_dump(mode="json")) for entry in self.entries)
        return head + b',"entries":[\n' + lines + b"\n]}\n"

    def nearest(self, key: EnvironmentKey) -> BaselineEntry | None:
        """Return the entry of the most similar environment; of equally similar entries the latest; `None` if there are no entries."""
        latest_first = self.entries[::-1]
        return min(latest_first, key=lambda entry: len(entry.key.differing_fields(key)), default=None)

    def with_entry(self, entry: BaselineEntry) -> Baseline:
        """Return a baseline in which `entry` replaces the entry of the same environment."""
        others = [each for each in self.entries if each.key != entry.key]
        return self.model_copy(update={"entries": [*others, entry]})


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """Whether a result matches the baseline, and whether the baseline was written with the same code and environment."""

    holds: bool
    summary: str
    changes: list[str]
    """One line per metric that changed; a line begins with `!` if the change is beyond the limit or the metric is missing."""
    same_code: bool
    """Whether the entry was written with the same code."""


def compare_with_entry(
    entry: BaselineEntry, *, key: EnvironmentKey, code: str, metrics: Mapping[str, float], imported: str | None = None
) -> BaselineResult:
    """Compare a result with an entry, which may come from another environment than `key`.

    `imported` is the digest of the imported files. It is more exact than `code`, and is used if the entry also has it.
    """
    changes = list(_changes(entry, metrics))
    same_code = imported == entry.imported if imported and entry.imported else code == entry.code
    with_code = "with this code" if same_code else "with another state of the code"
    fields = ", ".join(entry.key.differing_fields(key))
    environment = f"in another environment ({fields})" if fields else "in this environment"
    severity = max((level.severity(metrics.get(name, inf)) for name, level in entry.metrics.items()), default=0)
    summary = _SUMMARIES[severity] if entry.metrics else "nothing was compared: the baseline holds no metric"
    return BaselineResult(
        holds=bool(entry.metrics) and not any(line.startswith("!") for line in changes),
        summary=f"{summary}; the baseline was written {with_code}, {environment}",
        changes=changes,
        same_code=same_code,
    )


_SUMMARIES: Final = (
    "bit-identical to the baseline",
    "within what rounding explains",
    "within what seeds explain",
    "beyond what rounding explains, within what seeds do: other numbers are computed, or drawn",
    "beyond what seeds explain",
)


def levels(
    results: Sequence[Mapping[str, float]], nudged: Sequence[Mapping[str, float]] = ()
) -> dict[str, MetricLevel]:
    """Compute values and tolerances from the results of several seeds; the first seed is the one that later checks train.

    `nudged` are results of the first seed with initial weights that differ only in their last bits.

    >>> levels([{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}])["loss"].value
    1.0
    >>> levels([{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}], [{"loss": 1.0 + 2**-10}])["loss"].rounding
    0.009765625
    """
    metrics: dict[str, MetricLevel] = {}
    for name, value in sorted(results[0].items()):
        values = [each[name] for each in results if isfinite(each.get(name, float("nan")))]
        if len(values) == len(results):
            tolerance, rounding = max(seed_difference(values), LEAST * abs(value)), _rounding(name, value, nudged)
            at_most = None if rounding is None else min(rounding, tolerance)
            metrics[name] = MetricLevel(value=value, tolerance=tolerance, rounding=at_most)
    return metrics


def _rounding(name: str, value: float, nudged: Sequence[Mapping[str, float]]) -> float | None:
    """Return the limit for rounding; `None` if rounding does not change the metric, such as a fraction of few samples."""
    distance = max((abs(each.get(name, inf) - value) for each in nudged), default=0.0)
    return max(SAFE * distance, FINEST * abs(value)) if distance and isfinite(distance) else None


def digest_of_code(root: Path, *files: Path) -> str:
    """Return the digest of `trainer/training/` and of `files`: the experiment and the declarations of the datasets."""
    paths = [*sorted((root / "trainer/training").rglob("*.py")), *files]
    named = {str(path.relative_to(root) if path.is_relative_to(root) else path.name): path for path in paths}
    return digest_of_document({name: digest_of_file(path) for name, path in named.items()})


def _changes(entry: BaselineEntry, metrics: Mapping[str, float]) -> Iterator[str]:
    for name, level in entry.metrics.items():
        value = metrics.get(name)
        if value is None:
            yield f"! {name}: {level.value:.6g} before, not measured now"
        elif value != level.value:
            distance = level.distance(value)
            beyond = "" if distance <= level.allowed else "! "
            rounded = "" if level.rounding is None else f"rounding explains {level.rounding:.3g}, "
            yield (
                f"{beyond}{name}: {level.value:.6g} before, {value:.6g} now; difference {distance:.3g}, "
                f"{rounded}seeds {'explain ' if level.rounding is None else ''}{level.tolerance:.3g}"
            )
    yield from (
        f"{name}: {metrics[name]:.6g} now, not measured before"
        for name in sorted(metrics.keys() - entry.metrics.keys())
    )
