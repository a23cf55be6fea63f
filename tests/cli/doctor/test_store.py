"""The command `reprise doctor store`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trainer import cli

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_probed_and_the_table_shows_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "store", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ok    create    6 races of 8: one winner each")
    assert out[-1] == f"{tmp_path} provides everything that Reprise needs"
    assert list(tmp_path.iterdir()) == []


def test_json_output_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "store", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["trusted"], document["remaining"], len(document["probes"])) == (True, 0, 7)


@pytest.mark.host
def test_a_missing_store_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "store", str(tmp_path / "nowhere")]) == 53
    captured = capsys.readouterr()
    assert (captured.out, "does not exist" in captured.err) == ("", True)
