"""How well an image's identity is known, depending on three sources and whether they agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.runs.image_claim import ObservedImage, claim_image, write_observed_image
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from pathlib import Path

BUILD, OTHER = digest_of_bytes(b"build"), digest_of_bytes(b"other build")
MANIFEST, CONFIG, LAYER = digest_of_bytes(b"manifest"), digest_of_bytes(b"config"), digest_of_bytes(b"layer")
HANDED = {
    "REPRISE_ENVIRONMENT": "cpu",
    "REPRISE_IMAGE": f"reprise/cpu@{MANIFEST}",
    "REPRISE_IMAGE_CONFIG": CONFIG,
    "REPRISE_IMAGE_LAYERS": LAYER,
    "REPRISE_BUILD_ID": BUILD,
}


@pytest.fixture
def image_statement(tmp_path: Path) -> Path:
    path = tmp_path / "image.json"
    document = {"format": "reprise.image/1", "environment": "cpu", "build_id": BUILD, "lock": BUILD, "variables": {}}
    path.write_text(json.dumps(document))
    return path


def test_a_matching_claim_is_asserted(image_statement: Path) -> None:
    found = claim_image(HANDED, baked=image_statement)
    assert found.image.known is Knowledge.ASSERTED
    assert (found.image.manifest, found.image.config, found.layers) == (MANIFEST, CONFIG, [LAYER])
    assert found.image.reason is None


def test_a_matching_observation_from_the_host_is_verified(image_statement: Path, tmp_path: Path) -> None:
    """The engine's inspection takes precedence over the passed identity."""
    write_observed_image(
        tmp_path,
        ObservedImage(
            container="c", reference=HANDED["REPRISE_IMAGE"], manifest=MANIFEST, build_id=BUILD, layers=[LAYER]
        ),
    )
    found = claim_image({}, run=tmp_path, baked=image_statement)
    assert (found.image.known, found.image.manifest, found.layers) == (Knowledge.VERIFIED, MANIFEST, [LAYER])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"REPRISE_BUILD_ID": OTHER}, f"is {OTHER} in .env; this image has {BUILD}: `scripts/setup`"),
        ({"REPRISE_BUILD_ID": "sha256:12"}, f"is 'sha256:12' (not a digest) in .env; this image has {BUILD}"),
        ({"REPRISE_BUILD_ID": ""}, "no image identity was passed"),
        ({"REPRISE_IMAGE": ""}, "no image identity was passed"),
        ({"REPRISE_ENVIRONMENT": "cuda"}, "'cuda'"),
        ({"REPRISE_IMAGE": "reprise/cpu:local", "REPRISE_IMAGE_CONFIG": ""}, "a tag can move"),
    ],
)
def test_an_incomplete_claim_is_unknown_with_its_reason(
    image_statement: Path, change: dict[str, str], message: str
) -> None:
    image = claim_image(HANDED | change, baked=image_statement).image
    assert (image.known, image.manifest, image.config) == (Knowledge.UNKNOWN, None, None)
    assert message in str(image.reason)
    assert image.build_id == BUILD


def test_two_build_ids_that_differ_are_both_shown(image_statement: Path) -> None:
    image = claim_image(HANDED | {"REPRISE_BUILD_ID": OTHER}, baked=image_statement).image
    assert (image.build_id, image.handed_build_id) == (BUILD, OTHER)


def test_an_observation_of_another_build_is_unknown(image_statement: Path, tmp_path: Path) -> None:
    """The variables from `.env` are also ignored if the engine reports another build."""
    write_observed_image(tmp_path, ObservedImage(container="c", reference="x", build_id=OTHER))
    assert claim_image(HANDED, run=tmp_path, baked=image_statement).image.known is Knowledge.UNKNOWN


def test_outside_of_an_image_the_image_is_unknown(tmp_path: Path) -> None:
    found = claim_image(HANDED, baked=tmp_path / "none.json")
    assert (found.image.known, found.baked, found.image.environment) == (Knowledge.UNKNOWN, None, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":"reprise.image/9"}'])
def test_a_damaged_claim_is_unknown_and_not_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "image.json"
    path.write_text(text)
    image = claim_image(HANDED, baked=path).image
    assert image.known is Knowledge.UNKNOWN
    assert "image.json" in str(image.reason)


def test_an_empty_observation_leaves_the_claim_asserted(image_statement: Path, tmp_path: Path) -> None:
    """The passed identity still counts as `asserted`."""
    write_observed_image(tmp_path, ObservedImage(container="c", reference=None, fault="no engine"))
    assert claim_image(HANDED, run=tmp_path, baked=image_statement).image.known is Knowledge.ASSERTED


def test_an_observation_without_a_build_id_is_unknown(image_statement: Path, tmp_path: Path) -> None:
    """The reason names the observed image."""
    write_observed_image(tmp_path, ObservedImage(container="c", reference="debian"))
    found = claim_image(HANDED, run=tmp_path, baked=image_statement).image
    assert (found.known, "without a build ID" in str(found.reason)) == (Knowledge.UNKNOWN, True)


@pytest.mark.parametrize("watched", [False, True])
def test_an_image_built_by_compose_is_unknown_but_its_lock_is_compared(
    image_statement: Path, tmp_path: Path, *, watched: bool
) -> None:
    image_statement.write_text(json.dumps(json.loads(image_statement.read_text()) | {"build_id": None}))
    if watched:
        write_observed_image(tmp_path, ObservedImage(container="c", reference="x", build_id=BUILD))
    found = claim_image(HANDED, run=tmp_path, baked=image_statement)
    assert (found.image.known, found.image.build_id) == (Knowledge.UNKNOWN, None)
    assert "has no build ID" in str(found.image.reason)
    assert found.baked is not None
    assert found.baked.lock == BUILD


def test_an_observation_round_trips(tmp_path: Path) -> None:
    observed: dict[str, Any] = {
        "container": "c",
        "reference": "r",
        "manifest": None,
        "config": CONFIG,
        "build_id": BUILD,
    }
    write_observed_image(tmp_path, ObservedImage(**observed))
    assert ObservedImage.model_validate_json((tmp_path / "image-seen.json").read_text()) == ObservedImage(**observed)
