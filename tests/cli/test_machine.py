"""Checks that this image and this machine can train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checkouts import LOCK, write_checkout
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DeviceError, EnvironmentNameError, LockError, SettingError
from trainer.cli.machine import check_environment, check_lock, device_for
from trainer.environments.declaration import load_environment, requirements_of
from trainer.runs.image_claim import BakedImage, ImageClaim
from trainer.runs.record import Image, Knowledge
from trainer.settings.determinism import Level
from trainer.settings.fields import LaunchSettings

if TYPE_CHECKING:
    from pathlib import Path


def write_lock_claim(lock: bytes) -> ImageClaim:
    return with_packages(digest_of_bytes(lock))


def with_packages(digest: str) -> ImageClaim:
    """Return the claim of a process in an image of the environment `cpu` with this lock digest."""
    baked = BakedImage(format="reprise.image/1", environment="cpu", build_id=digest_of_bytes(b""), lock=digest)
    return ImageClaim(image=Image(known=Knowledge.UNKNOWN, environment="cpu"), layers=None, baked=baked)


def test_another_lock_is_rejected_with_a_hint(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    check_lock(write_lock_claim((root / "uv.lock").read_bytes()), root)
    with pytest.raises(LockError, match=r"uv\.lock has packages sha256:\w+ for environment cpu") as caught:
        check_lock(write_lock_claim(b"theirs"), root)
    assert caught.value.hint == "build the image: scripts/reprise image build cpu"


def test_a_lock_that_changed_for_another_environment_still_matches_the_image(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    known = with_packages(requirements_of(load_environment("cpu", root=root), root=root))
    (root / "uv.lock").write_text(LOCK.replace('name = "server"\nversion = "1"', 'name = "server"\nversion = "2"'))
    check_lock(known, root)
    (root / "uv.lock").write_text(LOCK.replace('name = "shared"\nversion = "1"', 'name = "shared"\nversion = "2"'))
    with pytest.raises(LockError):
        check_lock(known, root)


def test_an_image_of_an_environment_that_the_checkout_lacks_is_rejected_with_a_hint(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    (root / "environments" / "cpu.toml").unlink()
    with pytest.raises(EnvironmentNameError, match=r"\.env has environment 'cpu'") as caught:
        check_lock(write_lock_claim(b"theirs"), root)
    assert str(caught.value.hint).startswith("scripts/setup --environment ")


def test_a_missing_lock_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"uv.lock does not exist"):
        check_lock(write_lock_claim(b"mine"), tmp_path)


def test_another_environment_is_rejected() -> None:
    check_environment(write_lock_claim(b""), LaunchSettings(environment="cpu"))
    with pytest.raises(EnvironmentNameError, match="'cuda'; this process runs in cpu"):
        check_environment(write_lock_claim(b""), LaunchSettings(environment="cuda"))


@pytest.mark.parametrize(
    ("requested", "gpus", "torch", "device"),
    [
        ("auto", [], "2.13.0+cpu", "cpu"),
        ("auto", ["nvidia0"], "2.13.0+cu130", "gpu"),
        ("cpu", ["nvidia0"], "2.13.0+cpu", "cpu"),
    ],
)
def test_the_device_follows_from_the_hardware(requested: str, gpus: list[str], torch: str, device: str) -> None:
    assert device_for(requested, gpus=gpus, torch=torch) == device


@pytest.mark.parametrize(
    ("requested", "gpus", "message"),
    [("auto", ["nvidia0"], "built for CPUs"), ("gpu", ["nvidia0"], "built for CPUs"), ("gpu", [], "no GPU")],
)
def test_an_unused_gpu_is_always_reported(requested: str, gpus: list[str], message: str) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        device_for(requested, gpus=gpus, torch="2.13.0+cpu")
    assert "--accelerator cpu" in str(caught.value.hint)


def test_portable_determinism_is_for_cpus_only() -> None:
    assert device_for("auto", gpus=["nvidia0"], torch="2.13.0+cu130", level=Level.PORTABLE) == "cpu"
    with pytest.raises(SettingError, match="on CPUs only"):
        device_for("gpu", gpus=["nvidia0"], torch="2.13.0+cu130", level=Level.PORTABLE)
