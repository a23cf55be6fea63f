"""A command that reads samples in a container uses the store and the cache that the user named."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from trainer.cli.data import DataContext, in_image
from trainer.cli.data.in_image import output_in_image
from trainer.data.cache.folder import Cache
from trainer.launch.container import ContainerLauncher

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.launch.contract import CommandRequest

pytestmark = pytest.mark.host
WORDS = ["data", "show", "churn", "--values", "--json"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start no container; return a list to which the store that Compose gets and the words of the command are added."""
    found: list[str] = []

    class Launcher(ContainerLauncher):
        def start(self, request: CommandRequest, **_: Any) -> Any:
            found.extend([os.environ["REPRISE_STORE"], *self.command(request)])
            return SimpleNamespace(output=lambda: (0, b"{}"))

    def launcher(*options: str) -> Launcher:
        nothing: Any = None
        return Launcher(checkout=nothing, engine=nothing, report=print, options=options)

    monkeypatch.setenv("REPRISE_STORE", "s3://of-the-shell")
    monkeypatch.setattr(in_image, "wake_store", lambda: None)
    monkeypatch.setattr(in_image, "container_launcher", launcher)
    return found


def start(folder: Path, *, names_cache: bool) -> None:
    (folder / ".env").touch()
    context = DataContext(
        root=folder, store="s3://team", cache=Cache(root=folder / "data" / "cache"), names_cache=names_cache
    )
    assert output_in_image(WORDS, context, need="reading samples needs torch", hint="") == (0, b"{}")


def test_the_named_cache_is_mounted_and_the_named_store_is_passed_on(tmp_path: Path, started: list[str]) -> None:
    start(tmp_path, names_cache=True)
    folder = tmp_path / "data/cache"
    assert started[0] == "s3://team"
    assert started[started.index("--volume") + 1] == f"{folder}:/reprise-cache"
    assert started[-len(WORDS) - 2 :] == [*WORDS, "--cache", "/reprise-cache"]
    assert folder.is_dir(), "Docker would create a missing folder as root's"


def test_without_a_named_cache_the_container_uses_its_own(tmp_path: Path, started: list[str]) -> None:
    start(tmp_path, names_cache=False)
    assert "--volume" not in started
    assert started[-len(WORDS) :] == WORDS
