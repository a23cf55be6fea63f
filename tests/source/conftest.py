"""A checkout to capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.source.checkouts import git

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def make_checkout(tmp_path: Path) -> Path:
    """Return a repository with a single commit of code and a script, an ignored folder, and `runs/`."""
    root = tmp_path / "checkout"
    for path, text in {
        "code.py": "x = 1\n",
        "deep/er.txt": "ü\n",
        "do": "#!/bin/sh\n",
        ".gitignore": "out/\n.env\n",
        "out/big.bin": "ignored",
        "runs/.gitignore": "*\n!.gitignore\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "do").chmod(0o755)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root
