"""Small checkouts to build from: the declarations and recipes of this one, and a lock of a few lines."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.actions.build_image import Machine
from trainer.environment import INVENTORY, RECIPES
from trainer.host.indexes import Indexes

ROOT = Path(__file__).parents[1]
BASE = f"docker.io/library/debian:bookworm-slim@sha256:{'8' * 64}"
MACHINE = Machine(base=BASE, indexes=Indexes(variables={}, folders=(), left_out=()), ca=None, proxies={})


def checkout(folder: Path) -> Path:
    """A checkout in `folder` with everything that a build is a function of."""
    for name in (*RECIPES, INVENTORY, *(f"environments/{name}.toml" for name in ("cpu", "cuda", "store"))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "uv.lock").write_text('wheels = [{ url = "https://files.invalid/torch-2.13.0%2Bcpu-cp311.whl" }]\n')
    (folder / "runs").mkdir()
    return folder
