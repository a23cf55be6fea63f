"""Pins are written only for images in a registry, and a pinned image is never replaced by another image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.checkouts import BASE, LOCK, MACHINE, write_checkout
from tests.environments.engine.memory import FACTS, MemoryEngine
from trainer.base.errors import ImageMissingError, PinError, UsageError
from trainer.environments.build import BuiltImage, build, plan
from trainer.environments.declaration import load_pin
from trainer.environments.pin import pin, restore, unpin
from trainer.environments.setup import image_values

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = "127.0.0.1:5000/team/cpu"


def build_cpu_image(root: Path, engine: MemoryEngine) -> BuiltImage:
    return build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)


def test_a_pin_has_the_pushed_digest(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    image = build_cpu_image(root, engine)
    written = pin(image, REPOSITORY, engine=engine, root=root, push=True)
    assert load_pin("cpu", root=root) == written
    assert written.reference == f"{REPOSITORY}@{image.manifest}"
    assert written.build_id == image.plan.build_id


def test_an_image_in_no_registry_cannot_be_pinned(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    with pytest.raises(PinError, match="is not in its registry") as caught:
        pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=False)
    assert caught.value.hint == f"reprise image pin cpu {REPOSITORY} --push"
    assert load_pin("cpu", root=root) is None


def test_an_engine_without_manifests_cannot_pin(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine(info=replace(FACTS, keeps_manifests=False))
    with pytest.raises(PinError, match="keeps no manifests"):
        pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)


def test_setup_uses_the_pin(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    written = pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)
    assert image_values("cpu", engine=engine, root=root)["REPRISE_IMAGE"] == written.reference


def test_a_missing_pinned_image_is_not_replaced_by_another(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    written = pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)
    other = MemoryEngine(registries=engine.registries)
    with pytest.raises(ImageMissingError) as caught:
        image_values("cpu", engine=other, root=root)
    assert "image restore cpu" in str(caught.value.hint)
    assert "image unpin cpu" in str(caught.value.hint)
    assert restore("cpu", engine=other, root=root).pin == written
    assert image_values("cpu", engine=other, root=root)["REPRISE_IMAGE"] == written.reference


def test_a_pin_of_other_inputs_is_rejected(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)
    (root / "uv.lock").write_text(LOCK.replace("2.13.0", "2.14.0"))
    with pytest.raises(PinError, match="this checkout is build"):
        image_values("cpu", engine=engine, root=root)


def test_an_image_that_differs_from_its_pin_is_rejected(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    written = pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)
    engine.images_by_id[written.manifest] = replace(engine.images_by_id[written.manifest], layers=())
    with pytest.raises(PinError, match="the pin has"):
        restore("cpu", engine=engine, root=root)


def test_a_pinned_image_that_its_registry_lacks_is_named(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    written = pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)
    with pytest.raises(ImageMissingError, match="which its registry does not have") as caught:
        restore("cpu", engine=MemoryEngine(), root=root)
    assert written.reference in caught.value.message
    assert f"image pin cpu {REPOSITORY} --push" in str(caught.value.hint)
    assert "image unpin cpu" in str(caught.value.hint)


@pytest.mark.parametrize(
    "repository",
    [f"{REPOSITORY}:latest", f"https://{REPOSITORY}", f"{REPOSITORY}@sha256:{'1' * 64}", "127.0.0.1:5000/Team/cpu"],
)
def test_a_repository_with_a_tag_is_rejected_with_the_plain_name(tmp_path: Path, repository: str) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    with pytest.raises(UsageError) as caught:
        pin(build_cpu_image(root, engine), repository, engine=engine, root=root, push=True)
    assert caught.value.hint == f"reprise image pin cpu {REPOSITORY}"
    assert (engine.registries, load_pin("cpu", root=root)) == ({}, None)


def test_unpinning_twice_is_not_an_error(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    pin(build_cpu_image(root, engine), REPOSITORY, engine=engine, root=root, push=True)
    assert unpin("cpu", root=root)
    assert not unpin("cpu", root=root)


def test_without_a_pin_there_is_nothing_to_restore(tmp_path: Path) -> None:
    with pytest.raises(PinError, match="has no pin"):
        restore("cpu", engine=MemoryEngine(), root=write_checkout(tmp_path))
