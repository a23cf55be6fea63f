"""`reprise data` in a temporary checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer import cli
from trainer.cli import configuration, data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a checkout with an empty store, as the current folder; return exit code, stdout and stderr."""
    for module in (data, configuration):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for folder in ("store", "datasets"):
        (tmp_path / folder).mkdir()

    def type_words(*words: str) -> tuple[int, str, str]:
        code = cli.main(["data", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return type_words
