"""The command `reprise compare`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import float_tensor, make_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import RunNotFoundError, UsageError
from trainer.cli import main as command
from trainer.cli.compare import main
from trainer.runs.publish import publish_run
from trainer.runs.record import Imported
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_output_is_verdict_then_candidates_then_numbers(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = make_run(runs)
    b = make_run(runs, loss=0.25, weights={"w": float_tensor(1.0, 3.0)}, settings={"seed": 1, "learning_rate": 0.001})
    assert main([a.record.run, b.record.run]) == 20
    out = capsys.readouterr().out
    first, *titles = [line for line in out.splitlines() if line and not line.startswith(("A ", "B ", "  "))]
    assert first == "different: the final weights differ and result metrics differ (1 of 1)"
    assert titles == [
        "candidates for a cause: ingredients",
        "result metrics",
        "weights",
        "for a stronger verdict",
        "not compared",
    ]
    assert "setting  seed  0 (default)  1 (default)" in out
    assert "w       float32  2      1 of 2     many         0.333" in out
    assert "because of" not in out


def test_a_run_that_left_its_determinism_level_is_named_with_the_switch(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    switched = {
        "determinism_at_end": ["benchmark is True; expected False at determinism level machine (at step 2)", "more"]
    }
    a, b = make_run(runs, around=switched), make_run(runs, loss=0.25, around=switched)
    assert main([a.record.run, b.record.run]) == 20
    out = capsys.readouterr().out
    assert (
        "A is off, machine was requested: benchmark is True; expected False at determinism level machine (at step 2) and 1 more"
        in out
    )
    assert f"the net switched determinism off in {a.record.run} and {b.record.run}" in out
    assert "no ingredient differs" not in out


def test_a_file_that_neither_run_imported_is_not_a_candidate(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = {"imported": Imported(digest=digest_of_bytes(b"net.py"), files=["net.py"])}
    a, b = make_run(runs, around=code), make_run(runs, code="x = 2\n", loss=0.25, around=code)
    assert main([a.record.run, b.record.run]) == 20
    out = capsys.readouterr().out
    assert "candidates for a cause: ingredients" not in out
    assert "differs only in files that neither run imported: 1 file: code.py" in out
    assert "these would have to be equal: code" not in out


def test_a_run_is_identical_to_itself(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(runs).record.run
    assert main(["latest", run[:20]]) == 0
    assert main([str(runs / run), run]) == 0
    assert capsys.readouterr().out.startswith("identical: it is the same run; ")


def test_at_least_exits_with_0_or_1(runs: Path) -> None:
    a, b, c = make_run(runs).record.run, make_run(runs).record.run, make_run(runs, loss=1.0).record.run
    assert main([a, b, "--at-least", "identical"]) == 0
    assert main([a, b, "--at-least", "within noise"]) == 0
    assert main([a, c, "--at-least", "within-noise"]) == 1
    assert main([a, c, "--at-least", "different"]) == 0
    with pytest.raises(UsageError, match="unknown verdict"):
        main([a, b, "--at-least", "simmilar"])


def test_json_is_one_document(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([make_run(runs).record.run, make_run(runs, loss=1.0).record.run, "--json"]) == 20
    assert json.loads(capsys.readouterr().out)["verdict"] == "different"


def test_a_run_in_the_store_is_compared_by_its_record(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    a, b = make_run(runs), make_run(runs)
    for each in (a, b):
        assert each.folder is not None
        publish_run(each.folder, open_store(str(tmp_path / "store")))
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "elsewhere"))
    with pytest.raises(RunNotFoundError):
        main([a.record.run, b.record.run])
    assert main([a.record.run, b.record.run, "--store", str(tmp_path / "store")]) == 0
    assert f"`scripts/reprise runs pull {b.record.run}` first" in capsys.readouterr().out


def test_control_characters_of_a_record_are_escaped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J"
    make_run(runs)
    b = make_run(
        runs, code=f"# {evil}\n", loss=0.1, settings={evil: evil, "seed": 0}, weights={evil: float_tensor(1.0)}
    )
    a = make_run(runs, settings={"seed": 1})
    assert command(["compare", a.record.run, b.record.run]) == 20
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "u001b[2J" in out


def test_long_lists_are_cut_with_a_count(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = make_run(runs, settings={f"s{place:02}": 0 for place in range(30)}, code="x\n" * 100).record.run
    b = make_run(runs, settings={}, code="y\n" * 100).record.run
    main([a, b, "--limit", "3"])
    cut = capsys.readouterr().out
    assert "... and 27 more of kind setting" in cut
    assert "more lines: --all shows them" in cut
    main([a, b, "--all"])
    assert "s29" in capsys.readouterr().out


def test_compare_imports_neither_torch_nor_docker_nor_numpy() -> None:
    code = (
        "import sys, trainer.cli.compare; print(sorted({'torch', 'numpy', 'docker', 'lightning'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
