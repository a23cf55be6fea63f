"""`scripts/bench`: its timings and its tables."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import bench
import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def program(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module of `benchmarks/`, which is not on the path."""
    monkeypatch.syspath_prepend(bench.FOLDER)
    return importlib.import_module(name)


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


@pytest.mark.parametrize("name", ["data", "determinism", "serving", "streaming", "trace"])
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
    names = ("data", "determinism", "serving", "streaming", "trace")
    assert {name: bench.read(name).prepare for name in names} == dict.fromkeys(names, "scripts/machine/venv dev")


def test_the_table_of_transfers_returns_the_medians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_table = program("data_table", monkeypatch)
    cases = [data_table.Case(name="a", command=["true"]), data_table.Case(name="b", command=["sh", "-c", "true"])]
    took = data_table.table("t", cases, rounds=1, cwd=tmp_path)
    assert min(took.values()) > 0
    assert f"| b | {took['b']:.2f} s | {took['b']:.2f} s | {took['b'] / took['a']:.2f} |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["peers.txt", "serving_peers.txt", "streaming_peers.txt"])
def test_peers_are_pinned_by_hash_without_an_address(name: str) -> None:
    text = (bench.FOLDER / name).read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?! )", re.sub(r"(?m)^#.*\n", "", text).strip()):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry)


@pytest.mark.torch
def test_the_sums_of_a_streamed_epoch_show_a_repeated_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    client, bodies = program("streaming_client", monkeypatch), [bytes([number]) * (9 + number) for number in range(4)]

    def epoch(*batches: list[int]) -> Any:
        one = client.Pass()
        for numbers in batches:
            one.add(client.padded([bodies[number] for number in numbers]), is_checked=True)
        return one

    expected = {"samples": 4, "bytes": 42, "heads": sum(int.from_bytes(body[:8]) for body in bodies)}
    assert {name: getattr(epoch([3, 1], [0, 2]), name) for name in expected} == expected
    assert epoch([3, 1], [0, 2]) == epoch([0], [1, 2, 3])
    assert epoch([3, 1], [0, 2]).heads != epoch([3, 1], [0, 1]).heads
