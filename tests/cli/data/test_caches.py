"""The containers' cache, found through a fake `docker` command."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DatasetError
from trainer.cli.data import DataContext
from trainer.cli.data.caches import UnreadableCache, container_cache, verify_cached
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Dataset, declaration, declared
from trainer.environments.dotenv import write_block
from trainer.runs.image_file import IMAGE_FILE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(IMAGE_FILE.exists(), reason="needs a host: a container has its own cache")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout that is set up; its folder `bin` is on PATH, for a fake `docker`."""
    write_block(tmp_path / ".env", {"COMPOSE_PROJECT_NAME": "mine"})
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def write_docker(checkout: Path, script: str) -> None:
    (checkout / "bin/docker").write_text(f"#!/bin/sh\n{script}\n")
    (checkout / "bin/docker").chmod(0o755)


def test_a_readable_volume_is_a_cache(checkout: Path) -> None:
    write_docker(checkout, f'[ "$5" = mine_cache ] && echo {checkout}')
    assert container_cache(checkout) == Cache(root=checkout)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo /nowhere/at/all", "this user cannot read it from the host"),
        ("echo cannot connect >&2; exit 1", "Docker reports an error"),
    ],
)
def test_an_unreadable_volume_is_reported_with_the_reason(checkout: Path, script: str, reason: str) -> None:
    write_docker(checkout, script)
    assert container_cache(checkout) == UnreadableCache(reason=reason)


def test_without_a_volume_or_setup_there_is_no_container_cache(checkout: Path) -> None:
    write_docker(checkout, "echo Error: no such volume >&2; exit 1")
    assert container_cache(checkout) is None
    assert container_cache(checkout / "bin") is None


@pytest.mark.parametrize(
    ("is_set_up", "store", "hint"),
    [
        (
            True,
            "",
            "training fetches it; to fetch it now, for containers: docker compose run --rm train data fetch small; for ",
        ),
        (False, "/s", "for commands on this host: reprise data fetch small; scripts/train --exp EXPERIMENT sets"),
        (False, "", "scripts/train --exp EXPERIMENT sets up this checkout and fetches the datasets of the experiment"),
    ],
)
def test_a_dataset_in_no_cache_is_an_error_with_the_command_that_fetches_it(
    checkout: Path, store: str, hint: str, *, is_set_up: bool
) -> None:
    write_docker(checkout, "echo Error: no such volume >&2; exit 1")
    digest = digest_of_bytes(b"")
    small = Dataset(name="small", version=1, manifest=digest, content=digest, files=1, bytes=1)
    (checkout / "datasets").mkdir()
    declaration("small", root=checkout).write_text(declared(small))
    if not is_set_up:
        (checkout / ".env").unlink()
    context = DataContext(root=checkout, store=store, cache=Cache(root=checkout / "cache"))
    with pytest.raises(DatasetError, match="small@1 is not in the cache") as error:
        verify_cached(Namespace(name="small", cache=None, json=False), context)
    assert (error.value.hint or "").startswith(hint)
