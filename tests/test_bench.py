"""`scripts/bench`: its timings and its tables."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import bench
import pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_a_table_has_a_line_for_each_case_and_ratios_to_the_first() -> None:
    cases = (bench.Case(name="a", command="true"), bench.Case(name="b", command="true", after="echo 3 MB"))
    lines = bench.table(bench.Benchmark(title="t", aim="a", rounds=1, cases=cases)).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| a | ")
    assert "| 1.00 |" in lines[2]
    assert lines[3].endswith("| 3 MB |")


def test_the_time_is_taken_when_the_line_appears() -> None:
    case = bench.Case(name="a", command="echo up; exec cat /dev/zero | head -c 400000000 >/dev/null", until="^up")
    whole = bench.Case(name="a", command=case.command)
    assert bench.seconds(case) < bench.seconds(whole)


@pytest.mark.parametrize(
    "case", [bench.Case(name="a", command="exit 3"), bench.Case(name="a", command="echo x", until="y")]
)
def test_a_command_that_fails_or_never_prints_the_line_is_an_error(case: bench.Case) -> None:
    with pytest.raises(SystemExit, match="bench: a: exit"):
        bench.seconds(case)


def test_every_benchmark_in_the_repository_is_valid() -> None:
    for file in bench.FOLDER.glob("*.toml"):
        found = bench.read(file.stem)
        assert bool(found.cases) != (bench.ROOT / found.program).is_file()


def test_a_fresh_clone_is_prepared_before_the_timing(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    cases = (bench.Case(name="a", command=f"test -d {folder}"),)
    bench.table(bench.Benchmark(title="t", aim="a", rounds=1, cases=cases, prepare=f"mkdir {folder}"))
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ({"prepare": "false"}, "bench: t: `false` failed"),
        ({"program": "benchmarks/absent.py"}, "bench: benchmarks/absent.py ended with exit code 2"),
        ({"cases": (bench.Case(name="a", command="true", before="false"),)}, "bench: a: `false` failed"),
    ],
)
def test_a_failure_is_a_line_and_no_traceback(benchmark: dict[str, Any], message: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        bench.table(bench.Benchmark(**{"title": "t", "aim": "a", "rounds": 1, "cases": (), **benchmark}))


@pytest.mark.parametrize("name", ["data", "determinism", "trace"])
def test_a_benchmark_without_its_libraries_has_a_hint(tmp_path: Path, name: str) -> None:
    shutil.copytree(bench.FOLDER, tmp_path / "benchmarks")
    run = "import runpy, sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0])"
    words = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        run,
        str(tmp_path / "benchmarks"),
        str(tmp_path / f"benchmarks/{name}.py"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.match(rf"bench: \S+/{name}\.py needs ", done.stderr)
    assert done.stderr.endswith("\n  -> scripts/machine/venv dev\n")


def test_every_benchmark_of_a_python_program_creates_its_environment() -> None:
    assert {name: bench.read(name).prepare for name in ("data", "determinism", "trace")} == dict.fromkeys(
        ("data", "determinism", "trace"), "scripts/machine/venv dev"
    )
