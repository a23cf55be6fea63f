"""`reprise data show` of a cached dataset: exact counts and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import fill
from trainer import cli
from trainer.cli import configuration, data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a checkout with a published and fetched dataset of files."""
    for module in (data, configuration):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    for folder in ("store", "datasets"):
        (tmp_path / folder).mkdir()
    fill(tmp_path / "source", {f"{number % 2}/{number}.txt": b"%d" % number for number in range(40)})
    words = ("--split", "train=0%:80%", "--split", "val=80%:100%", "--split", "odd=1/")
    assert cli.main(["data", "publish", "small", str(tmp_path / "source"), *words]) == 0
    assert cli.main(["data", "fetch", "small"]) == 0
    capsys.readouterr()
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_samples_of_cached_splits_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "show", "small"]) == 0
    out = capsys.readouterr().out
    assert "  train     30 samples: about 80 % of the samples, by their names (seed 0)\n" in out
    assert "  val       10 samples: about 20 % of the samples, by their names (seed 0)\n" in out
    assert "  odd       20 samples: all samples of the files below 1/\n" in out


@pytest.mark.torch
def test_a_picture_of_samples_is_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "show", "small", "--samples", str(checkout / "s.png")]) == 0
    assert capsys.readouterr().out == f"{checkout / 's.png'}\n"
    assert (checkout / "s.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["data", "show", "small", "--samples", "s.png", "--json"]) == 2
    assert "--json has no effect with --samples" in capsys.readouterr().err
    assert cli.main(["data", "show", "small", "--samples", "s.jpg"]) == 2
    assert "expected a file that ends in .png or .html" in capsys.readouterr().err
    assert cli.main(["data", "show", "small", "--samples", str(checkout / "none/s.png")]) == 2
    assert f"{checkout / 'none'} is not a folder\n  -> mkdir -p {checkout / 'none'}\n" in capsys.readouterr().err


@pytest.mark.torch
def test_a_page_shows_lines_of_text_and_escapes_them(checkout: Path) -> None:
    fill(checkout / "texts", {"a.txt": "first <b>line</b>\nzweite Zeile ü\n".encode()})
    assert cli.main(["data", "publish", "texts", str(checkout / "texts"), "--lines", "a.txt"]) == 0
    assert cli.main(["data", "show", "texts", "--samples", str(checkout / "t.html")]) == 0
    page = (checkout / "t.html").read_text(encoding="utf-8")
    assert "<td>first &lt;b&gt;line&lt;/b&gt;</td>" in page
    assert "<td>zweite Zeile ü</td>" in page
