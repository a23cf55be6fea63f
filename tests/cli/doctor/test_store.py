"""`reprise doctor store` as it is typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trainer import cli

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_probed_and_the_table_says_what_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each question, what Reprise does, and the sum; the folder is empty again."""
    assert cli.main(["doctor", "store", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ok    create    6 races of 8: one winner each")
    assert out[-1] == f"{tmp_path} provides everything that Reprise needs"
    assert list(tmp_path.iterdir()) == []


def test_a_script_gets_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything the table has."""
    assert cli.main(["doctor", "store", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trusted"], told["left"], len(told["probes"])) == (True, 0, 7)


@pytest.mark.host
def test_a_store_that_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 53, one line, no table."""
    assert cli.main(["doctor", "store", str(tmp_path / "nowhere")]) == 53
    captured = capsys.readouterr()
    assert (captured.out, "does not exist" in captured.err) == ("", True)
