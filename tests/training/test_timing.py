"""The numbers of a benchmark: medians, intervals, ratios."""

from __future__ import annotations

import random

from trainer.training.timing import PARTS, Bench, Interval, compared, interval, page, ratios, unlike

BENCH = Bench(
    experiment="digits",
    data="digits@1",
    device="cpu",
    threads=2,
    torch="2.13.0",
    determinism="machine",
    precision="32-true",
    batch_size=32,
    parameters=9930,
    warmup=20,
    steps=200,
    samples_per_second=Interval(median=3200.0, low=3000.0, high=3400.0),
    seconds_per_step=Interval(median=0.01, low=0.009, high=0.011),
    parts={name: Interval(median=0.001, low=0.0005, high=0.002) for name in PARTS},
    memory={"resident": 1 << 29},
)


def test_an_interval_covers_the_median_at_its_confidence() -> None:
    draw = random.Random(0)  # noqa: S311 - not for a secret
    found = [interval([draw.expovariate(1.0) for _ in range(40)]) for _ in range(1000)]
    holding = sum(each.low <= 0.6931 <= each.high for each in found)
    assert 945 <= holding <= 985


def test_a_ratio_covers_the_widest_range_of_both_intervals() -> None:
    one, other = Interval(median=2.0, low=1.0, high=3.0), Interval(median=1.0, low=0.5, high=2.0)
    assert one.over(other) == Interval(median=2.0, low=0.5, high=6.0)
    assert one.over(Interval(median=0.0, low=0.0, high=0.0)) is None


def test_a_table_shows_every_part_and_its_share() -> None:
    text = "\n".join(page(BENCH))
    assert "95 % intervals (order statistics)" in text
    assert all(name in text for name in (*PARTS, "samples/s", "resident"))
    assert "10.0%" in text


def test_ratios_list_other_differences() -> None:
    other = BENCH.model_copy(update={"batch_size": 64, "device": "NVIDIA H100"})
    assert unlike(BENCH, other) == ["device: cpu, against NVIDIA H100", "batch size: 32, against 64"]
    lines = list(compared(ratios(BENCH, other)))
    assert [line.split()[0] for line in lines] == ["samples/s", "step", *PARTS, "resident"]
    assert all(line.split()[1] == "1.000" for line in lines)
