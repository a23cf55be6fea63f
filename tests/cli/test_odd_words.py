"""Words that cannot name a file: an error with its own exit code, never a traceback or a reported bug."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer import cli
from trainer.cli import data

if TYPE_CHECKING:
    from pathlib import Path

LONG = "x" * 300
ODD = [LONG, "é" * 200, "x/" * 600, "a\0b", "..", "/", "a/b", "\n", "\udcff"]
RUNS = [
    "compare ODD latest",
    "why ODD latest",
    "report ODD",
    "runs show ODD",
    "runs pull ODD",
    "runs publish ODD",
    "reproduce ODD",
]
OTHERS = [
    *(
        "train --exp ODD",
        "train --resume ODD",
        "doctor ODD",
        "verify ODD",
        "check ODD",
        "bench ODD",
        "noise ODD",
        "new ODD",
    ),
    *("certify rerun ODD", "sweep ODD --seed 1..2", "sweep --continue ODD", "new fine --like ODD", "ODD", "data ODD"),
    *("image build ODD", "image show ODD", "image pin ODD", "image restore ODD"),
]
DATA = [
    *(f"data {verb} ODD" for verb in ("show", "fetch", "verify", "publish-samples")),
    *("data diff ODD ODD", "data show ODD@1", "data publish ODD folder", "data publish small folder/x-ODD"),
    *(f"data publish small folder --split {word}" for word in ("ODD=0:1", "a=@ODD", "ODD")),
    *(f"data publish small folder {word}" for word in ("--lines ODD", "--images . --labels ODD", "--array x=ODD")),
]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with a folder of one file, and empty runs, store and cache."""
    monkeypatch.setattr(data, "CHECKOUT", tmp_path)
    for variable, name in {"REPRISE_STORE": "store", "REPRISE_CACHE": "cache", "REPRISE_RUNS": "runs"}.items():
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    for name in ("store", "datasets", "folder", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder/a.txt").write_text("a")
    return tmp_path


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("command", [*RUNS, *OTHERS, *DATA])
def test_an_invalid_argument_is_an_error_with_a_short_message(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for odd in ODD:
        words = [word.replace("ODD", odd) for word in command.split(" ")]
        code = cli.main(words)
        out, err = capsys.readouterr()
        assert (code >= 2, out) == (True, ""), (odd, err)
        assert "bug in Reprise" not in err
        assert len(err) < 1200


def test_an_empty_folder_argument_is_not_the_current_folder(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "publish", "small", ""]) == 2
    assert "found an empty word" in capsys.readouterr().err
    assert not list((checkout / "datasets").iterdir())
    assert cli.main(["compare", "", ""]) == 2
