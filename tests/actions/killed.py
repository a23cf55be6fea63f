"""Run by test_fetch_killed: fetch a dataset, and die by SIGKILL at the N-th step that changes the disk."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from trainer.actions.fetch_dataset import fetch_dataset
from trainer.dataset import parse_dataset
from trainer.store import open_store
from trainer.store.cache import Cache

EVENTS: Final = {"open", "os.rename", "os.link", "os.mkdir", "os.chmod", "os.remove", "os.rmdir"}
"""Audit events (PEP 578) of the calls that change a disk; a new file is opened once for each body."""


def main(store: str, cache: str, document: str, *, last: int) -> None:
    """Count the changes below the cache; at the `last` one, be gone."""
    left = last

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in EVENTS and any(isinstance(word, str | Path) and str(word).startswith(cache) for word in arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    dataset = parse_dataset(document.encode(), where="test")
    sys.addaudithook(hook)
    cached = fetch_dataset(dataset, cache=Cache(root=Path(cache)), open_store=lambda: open_store(store))
    sys.stdout.write(json.dumps({"folder": str(cached.folder()), "steps": last - left}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], last=int(sys.argv[4]))
