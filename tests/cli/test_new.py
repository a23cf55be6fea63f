"""The command `reprise new` without torch: written files, output and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli import main

ROOT = Path(__file__).parents[2]


def test_new_prints_the_next_command_and_the_lines_to_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--like", "faces", "--into", "ideas", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["copied"] == "faces"
    assert document["train"] == f"scripts/reprise train --exp {tmp_path / 'ideas/mine.py'}"
    assert document["change"][0].endswith(": the input and output sizes of the net")
    assert (tmp_path / "ideas/mine.py").read_text().startswith('"""Mine: describe in one sentence')


def test_new_prints_what_it_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--like", "digits", "--dataset", "faces", "--into", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "copied  digits (--like EXPERIMENT copies another)"
    assert lines[2:5] == ['filled  dataset = "faces"', "filled  input_shape = [1, 25, 25]", "filled  classes = 2"]
    assert main(["new", "other", "--dataset", "faces", "--into", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["filled"]["classes"] == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["digits"], 42, "already exists"),
        (["mine", "--like", "digit"], 42, "did you mean digits?"),
        (["mine", "--dataset", "digist"], 44, "did you mean digits?"),
        (["mine", "--dataset", "topics"], 44, "no field can be the target_field of digits"),
        (["mine", "--lik", "digits"], 2, "did you mean --like?"),
    ],
)
def test_invalid_names_are_rejected_in_one_line(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((ROOT / "trainer/experiments").iterdir())
    assert main(["new", *words]) == code
    assert message in capsys.readouterr().err
    assert sorted((ROOT / "trainer/experiments").iterdir()) == before


def test_new_does_not_import_torch() -> None:
    code = "import sys; import trainer.cli.new; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
