"""The cache of containers, seen from the host through what `docker` says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trainer.cli.data.container_cache import Hidden, container_cache
from trainer.host.dotenv import write_block
from trainer.host.image_claim import BAKED
from trainer.store.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(BAKED.exists(), reason="needs a host: in an image the cache is its own")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that is set up, and a place for a `docker` of ours."""
    write_block(tmp_path / ".env", {"COMPOSE_PROJECT_NAME": "mine"})
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def docker(checkout: Path, script: str) -> None:
    """Let `docker` do this."""
    (checkout / "bin/docker").write_text(f"#!/bin/sh\n{script}\n")
    (checkout / "bin/docker").chmod(0o755)


def test_a_volume_that_can_be_looked_into_is_a_cache(checkout: Path) -> None:
    """By the name that compose gives it."""
    docker(checkout, f'[ "$5" = mine_cache ] && echo {checkout}')
    assert container_cache(checkout) == Cache(root=checkout)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo /nowhere/at/all", "which this user cannot look into from the host"),
        ("echo cannot connect >&2; exit 1", "and the engine cannot be asked for it"),
    ],
)
def test_one_that_cannot_be_looked_into_is_said_so(checkout: Path, script: str, why: str) -> None:
    """With the reason."""
    docker(checkout, script)
    assert container_cache(checkout) == Hidden(why=why)


def test_no_volume_is_nothing(checkout: Path) -> None:
    """No container has run yet; or there is nothing set up."""
    docker(checkout, "echo Error: no such volume >&2; exit 1")
    assert container_cache(checkout) is None
    assert container_cache(checkout / "bin") is None
