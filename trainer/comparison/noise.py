"""The noise of an experiment: the differences between results if only the seed differs. Format `reprise.noise/1`.

A measured spread holds for its settings, environment and class of device only.

The results of two seeds differ by d. With the values of n seeds and their standard deviation s, |d| <= t(n - 1) * s * sqrt(2) for 19 of 20
pairs of seeds, if t is Student's 97.5 % quantile and the values are approximately normal. A larger difference is not noise, or is the
twentieth pair.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from math import sqrt
from statistics import stdev
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, JsonValue, model_validator

from trainer.base.document import Document, read_json_below
from trainer.base.plain_text import reading
from trainer.base.safe_folder import run_root
from trainer.comparison.retest import device_class

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trainer.runs.record import Record

FORMAT: Final = "reprise.noise/1"
FOLDER: Final = "noise"
"""The folder next to the runs: `runs/noise/<any name>.json`."""
SEED: Final = "seed"
FEWEST: Final = 3
"""The fewest seeds that give a useful spread: with two, t is 12.7."""
_T: Final = {
    2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086,
    30: 2.042, 60: 2.000, 120: 1.980, 1000: 1.962,
}  # fmt: skip
"""Student's t, two-sided 95 %, by degrees of freedom; between two entries, the lower one is used, which gives the wider interval."""


def _without_seed(settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if SEED in settings:
        raise ValueError("the runs differ only in their seeds, so the seed cannot be a fixed setting")
    return settings


class Noise(Document):
    """A measurement: the same run with several seeds."""

    format: Literal["reprise.noise/1"] = FORMAT
    experiment: str
    settings: Annotated[dict[str, JsonValue], AfterValidator(_without_seed)]
    """The values of the settings that affect the result, without the seed."""
    environment: str | None
    """The environment's name; `None` if the runs used no environment."""
    device: str
    """The class of device: `device_class` of the runs' records."""
    seeds: list[int] = Field(min_length=FEWEST)
    metrics: dict[str, list[FiniteFloat]]
    """The values of each result metric, in the order of `seeds`."""
    runs: list[str] = []
    """The ids of the measured runs, in the order of `seeds`, if the runs are kept."""

    @model_validator(mode="after")
    def _even(self) -> Self:
        uneven = [name for name, values in self.metrics.items() if len(values) != len(self.seeds)]
        if uneven:
            raise ValueError(f"{uneven[0]} has {len(self.metrics[uneven[0]])} values for {len(self.seeds)} seeds")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is listed twice")
        return self

    def explains(self, metric: str) -> float | None:
        """Return the largest difference of `metric` that seeds alone explain; `None` if the metric was not measured."""
        values = self.metrics.get(metric)
        return None if values is None else student(len(values) - 1) * stdev(values) * sqrt(2)

    def holds_for(self, record: Record) -> bool:
        """Return whether the run used this experiment, these settings, this environment and this class of device."""
        made = record.ingredients
        settings = {name: value for name, value in made.settings.items() if name != SEED}
        here = (made.experiment, record.circumstances.image.environment, device_class(record))
        return here == (self.experiment, self.environment, self.device) and settings == self.settings


def student(freedom: int) -> float:
    """Return Student's t, two-sided 95 %.

    >>> student(2), student(11), student(10_000)
    (4.303, 2.228, 1.962)
    """
    known = sorted(_T)
    return _T[known[bisect_right(known, max(freedom, known[0])) - 1]]


def measured_noise(folder: Path, records: Iterable[Record]) -> Noise | None:
    """Return the noise measured for one of these runs with the most seeds. Raise `DocumentError` if a file is no noise document."""
    runs = list(records)
    known: list[Noise] = []
    with reading(folder), suppress(FileNotFoundError), run_root(folder) as place:
        known = [read_json_below(place, name, Noise) for name in place.names() if name.endswith(".json")]
    fitting = [noise for noise in known if any(noise.holds_for(record) for record in runs)]
    return max(fitting, key=lambda noise: len(noise.seeds), default=None)
