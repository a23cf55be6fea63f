"""`reprise new`, typed: what it writes, what it says, what it refuses; without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli import main

ROOT = Path(__file__).parents[2]


def test_it_says_what_to_type_and_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder outside of the checkout is trained by the host's command."""
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--like", "faces", "--into", "ideas", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["train"] == f"scripts/reprise train --exp {tmp_path / 'ideas/mine.py'}"
    assert told["change"][0].endswith(": the input and output sizes of the net")
    assert (tmp_path / "ideas/mine.py").read_text().startswith('"""Mine: say in a sentence')


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["digits"], 42, "exists already"),
        (["mine", "--like", "digit"], 42, "did you mean digits?"),
        (["mine", "--dataset", "digist"], 44, "did you mean digits?"),
        (["mine", "--lik", "digits"], 2, "did you mean --like?"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the nearest name; nothing is written."""
    before = sorted((ROOT / "trainer/experiments").iterdir())
    assert main(["new", *words]) == code
    assert said in capsys.readouterr().err
    assert sorted((ROOT / "trainer/experiments").iterdir()) == before


def test_it_needs_no_torch() -> None:
    """It is typed on a host that has none."""
    code = "import sys; import trainer.cli.new; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
