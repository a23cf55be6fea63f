"""The cache of containers, seen from the host through what `docker` says."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DatasetError
from trainer.cli.data.container_cache import Hidden, container_cache
from trainer.cli.data.places import Places
from trainer.cli.data.verify import verify
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Dataset, declaration, declared
from trainer.environments.dotenv import write_block
from trainer.runs.image_claim import BAKED

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


@pytest.mark.parametrize(
    ("is_set_up", "store", "hint"),
    [
        (True, "", "a training fetches it; now, for containers: docker compose run --rm train data fetch small; for "),
        (False, "/s", "for commands on this host: reprise data fetch small; scripts/train --exp EXPERIMENT sets"),
        (False, "", "scripts/train --exp EXPERIMENT sets this checkout up and fetches what it trains on"),
    ],
)
def test_a_dataset_in_no_cache_is_said_with_what_fetches_it_where(
    checkout: Path, store: str, hint: str, *, is_set_up: bool
) -> None:
    docker(checkout, "echo Error: no such volume >&2; exit 1")
    digest = digest_of_bytes(b"")
    small = Dataset(name="small", version=1, manifest=digest, content=digest, files=1, bytes=1)
    (checkout / "datasets").mkdir()
    declaration("small", root=checkout).write_text(declared(small))
    if not is_set_up:
        (checkout / ".env").unlink()
    places = Places(root=checkout, store=store, cache=Cache(root=checkout / "cache"))
    with pytest.raises(DatasetError, match="small@1 is not in the cache") as fault:
        verify(Namespace(name="small", cache=None, json=False), places)
    assert (fault.value.hint or "").startswith(hint)
