"""The harness of `scripts/bench`: what it times, and what it writes."""

from __future__ import annotations

import bench
import pytest


def test_a_table_has_a_line_for_each_case_and_ratios_to_the_first() -> None:
    """The first case is the measure of the others."""
    cases = (bench.Case(name="a", command="true"), bench.Case(name="b", command="true", after="echo 3 MB"))
    lines = bench.table(bench.Benchmark(title="t", aim="a", rounds=1, cases=cases)).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| a | ")
    assert "| 1.00 |" in lines[2]
    assert lines[3].endswith("| 3 MB |")


def test_time_is_taken_when_the_line_appears_not_at_the_end() -> None:
    """A command that goes on after the awaited line is not measured further."""
    case = bench.Case(name="a", command="echo up; exec cat /dev/zero | head -c 400000000 >/dev/null", until="^up")
    whole = bench.Case(name="a", command=case.command)
    assert bench.seconds(case) < bench.seconds(whole)


@pytest.mark.parametrize(
    "case", [bench.Case(name="a", command="exit 3"), bench.Case(name="a", command="echo x", until="y")]
)
def test_a_command_that_fails_or_never_says_it_ends_the_program(case: bench.Case) -> None:
    """No number is made of a failure."""
    with pytest.raises(SystemExit, match="bench: a: exit"):
        bench.seconds(case)


def test_every_benchmark_in_the_repository_can_be_read() -> None:
    """Unknown keys in a file of benchmarks/ are errors."""
    for file in bench.FOLDER.glob("*.toml"):
        found = bench.read(file.stem)
        assert bool(found.cases) != (bench.ROOT / found.program).is_file()
