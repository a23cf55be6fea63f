"""Small checkouts that images can be built from: this checkout's declarations and recipes, and a lock of a few lines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from trainer.environments.build import BuildMachine
from trainer.environments.declaration import BAKED_SCRIPTS, RECIPES
from trainer.environments.package_indexes import Indexes

ROOT = Path(__file__).parents[1]
BASE = f"docker.io/library/debian:bookworm-slim@sha256:{'8' * 64}"
MACHINE = BuildMachine(base=BASE, indexes=Indexes(variables={}, folders=(), left_out=()), ca=None, proxies={})


HASH: Final = f"sha256:{'0' * 64}"
INDEX: Final = 'source = { registry = "https://index.invalid/simple" }'


def locked_package(name: str, *, version: str = "1", needs: tuple[str, ...] = (), tag: str = "py3-none-any") -> str:
    """Return a lock entry of a package with one wheel."""
    entries = ", ".join(f'{{ name = "{each}" }}' for each in needs)
    wheel = f'{{ url = "https://files.invalid/{name}-{version}-{tag}.whl", hash = "{HASH}" }}'
    return (
        f'[[package]]\nname = "{name}"\nversion = "{version}"\n{INDEX}\n'
        f"dependencies = [{entries}]\nwheels = [{wheel}]\n"
    )


PROJECT: Final = """version = 1
[[package]]
name = "reprise"
version = "0"
source = { editable = "." }
dependencies = [{ name = "shared" }]
[package.optional-dependencies]
cpu = [{ name = "torch", version = "2.13.0+cpu" }]
cuda = [{ name = "torch", version = "2.13.0" }]
store = [{ name = "server" }]
samples = []
[package.dev-dependencies]
uv = [{ name = "uv" }]
"""
LOCK: Final = PROJECT + "".join(
    [
        locked_package("shared"),
        locked_package("server"),
        locked_package("uv"),
        locked_package("torch", version="2.13.0", tag="cp311-cp311-manylinux_2_28_x86_64"),
        locked_package("torch", version="2.13.0+cpu", tag="cp311-cp311-manylinux_2_28_x86_64").replace(
            "2.13.0+cpu-", "2.13.0%2Bcpu-"
        ),
    ]
)
"""A lock in which each environment has its own package, and all share another package."""


def write_checkout(folder: Path) -> Path:
    """Write a checkout with all inputs of a build into `folder`."""
    for name in (*RECIPES, *BAKED_SCRIPTS, *(f"environments/{name}.toml" for name in ("cpu", "cuda", "store"))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "uv.lock").write_text(LOCK)
    (folder / "runs").mkdir()
    return folder
