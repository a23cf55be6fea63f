"""Helpers for tests that capture checkouts."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.source.capture import SourceBundle


def git(folder: Path, *words: str) -> None:
    """Run git without user configuration."""
    names = {f"GIT_{who}_{what}": "a@b.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull, **names}
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=environment)


def paths(bundle: SourceBundle) -> list[str]:
    return [file.path for file in bundle.files]


def run_folder(tmp_path: Path, name: str = "one") -> Path:
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    return folder
