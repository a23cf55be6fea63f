"""With a committed pin, a fresh clone fetches the pinned image from its registry and uses no other image."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import docker, free_port, house_at
from tests.environments.engine.registry import serving
from trainer.environments.declaration import load_pin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import House

pytestmark = [pytest.mark.engine, pytest.mark.long]

TRAIN = ("--exp", "digits", "--max-epochs", "1")


@pytest.fixture
def address() -> Iterator[str]:
    """Yield the registry's address; at the end, the engine's images of this registry are untagged."""
    place = f"127.0.0.1:{free_port()}"
    yield place
    forget_images(place)


def forget_images(address: str) -> None:
    named = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}", "--digests").splitlines()
    for name in [name for name in named if name.startswith(address)]:
        repository, _, digest = name.partition("@")
        subprocess.run(["docker", "image", "rm", repository], capture_output=True, check=False)
        subprocess.run(
            ["docker", "image", "rm", f"{repository.rpartition(':')[0]}@{digest}"], capture_output=True, check=False
        )


@pytest.fixture
def fresh_clone(
    second_house: House, address: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Yield a clone with a committed pin of `cpu`, on a machine that lacks the pinned image."""
    with serving(tmp_path, address):
        pinned = second_house.type("scripts/reprise", "image", "pin", "cpu", f"{address}/team/cpu", "--push")
        assert pinned.code == 0, pinned.text
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for words in (("add", "environments"), (*identity, "commit", "-qm", "Pin the image of cpu")):
        assert second_house.type("git", *words).code == 0
    root = tmp_path_factory.mktemp("reprise-fresh-")
    assert second_house.type("git", "clone", "-q", str(second_house.root), str(root)).code == 0
    forget_images(address)
    with house_at(root, dict(second_house.env)) as mine:
        yield mine


def test_a_committed_pin_is_restored_by_digest_only(fresh_clone: House, address: str, tmp_path: Path) -> None:
    pin = load_pin("cpu", root=fresh_clone.root)
    assert pin is not None
    prompt = fresh_clone.type("scripts/train", *TRAIN)
    assert (prompt.code, pin.reference in prompt.err, "scripts/train --yes --exp digits" in prompt.err) == (
        62,
        True,
        True,
    )
    with serving(tmp_path / "empty", address):
        lacking = fresh_clone.type("scripts/train", "--yes", *TRAIN)
    assert (lacking.code, f"{pin.reference}, which its registry does not have" in lacking.err) == (62, True), (
        lacking.text
    )
    away = fresh_clone.type("scripts/train", "--yes", *TRAIN)
    assert (away.code, f"check that this machine can reach {address}" in away.err) == (60, True), away.text
    assert not (fresh_clone.root / ".env").exists()
    with serving(tmp_path, address):
        trained = fresh_clone.type("scripts/train", "--yes", *TRAIN)
    assert trained.code == 0, trained.text
    image = fresh_clone.record(trained.run)["circumstances"]["image"]
    digest = image["reference"].partition("@")[2]  # the engine may also have the image under another registry's name
    assert (image["known"], digest, image["config"]) == ("verified", pin.reference.partition("@")[2], pin.config)
    shown = fresh_clone.type("scripts/reprise", "image", "show", "cpu")
    assert (shown.code, pin.reference in shown.out) == (0, True), shown.text
    again = fresh_clone.type("scripts/reprise", "reproduce", trained.run)
    assert (again.code, again.out.startswith("identical")) == (0, True), again.text
