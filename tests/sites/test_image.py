"""The identity of the image that a cluster starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.sites.plans import DIGEST, IMAGE
from trainer.base.errors import ImageMismatchError, ImageMissingError, UsageError
from trainer.sites.image import image_variables

ROOT = Path(__file__).parents[2]
OTHER = f"sha256:{'d' * 64}"
DOTENV = {"REPRISE_ENVIRONMENT": "cpu", "REPRISE_IMAGE": f"localhost/reprise/cpu@{DIGEST}", "REPRISE_BUILD_ID": OTHER}
PIN = f'format = "reprise.pin/1"\nenvironment = "cpu"\nreference = "{IMAGE}"\nconfig = "{OTHER}"\nbuild_id = "{OTHER}"\nlayers = []\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "environments").mkdir()
    shutil.copy(ROOT / "environments" / "cpu.toml", tmp_path / "environments")
    return tmp_path


def test_the_pin_comes_before_dotenv(root: Path) -> None:
    assert image_variables(None, environment=None, dotenv=DOTENV, root=root) == DOTENV
    (root / "environments" / "cpu.pin.toml").write_text(PIN)
    pinned = image_variables(None, environment="cpu", dotenv={}, root=root)
    assert (pinned["REPRISE_IMAGE"], pinned["REPRISE_BUILD_ID"]) == (IMAGE, OTHER)


def test_a_copy_in_another_registry_has_the_same_digest(root: Path) -> None:
    assert image_variables(IMAGE, environment=None, dotenv=DOTENV, root=root)["REPRISE_IMAGE"] == IMAGE
    with pytest.raises(ImageMismatchError, match="the site's image is"):
        image_variables(f"registry.example/cpu@{OTHER}", environment=None, dotenv=DOTENV, root=root)


def test_a_file_has_the_identity_of_the_image_that_it_was_made_from(root: Path) -> None:
    found = image_variables("/images/cpu.sif", environment=None, dotenv=DOTENV, root=root)
    assert found["REPRISE_IMAGE"] == DOTENV["REPRISE_IMAGE"]


def test_without_an_image_by_digest_nothing_is_submitted(root: Path) -> None:
    with pytest.raises(UsageError, match="names an environment"):
        image_variables(None, environment=None, dotenv={}, root=root)
    for reference in ("", DIGEST, "localhost/reprise/cpu:latest"):
        with pytest.raises(ImageMissingError, match="not pinned"):
            image_variables(None, environment="cpu", dotenv={**DOTENV, "REPRISE_IMAGE": reference}, root=root)
