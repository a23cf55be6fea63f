"""How much is known about the image: three witnesses, and what they agree on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.runs.image_claim import SeenImage, claim_image, write_seen
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
def baked(tmp_path: Path) -> Path:
    """What an image says of itself."""
    path = tmp_path / "image.json"
    document = {"format": "reprise.image/1", "environment": "cpu", "build_id": BUILD, "lock": BUILD, "variables": {}}
    path.write_text(json.dumps(document))
    return path


def test_handed_in_and_agreeing_is_asserted(baked: Path) -> None:
    """The digests that were handed in are believed as far as `asserted` goes."""
    found = claim_image(HANDED, baked=baked)
    assert found.image.known is Knowledge.ASSERTED
    assert (found.image.manifest, found.image.config, found.layers) == (MANIFEST, CONFIG, [LAYER])
    assert found.image.reason is None


def test_seen_from_the_host_and_agreeing_is_verified(baked: Path, tmp_path: Path) -> None:
    """What the engine said counts for more than what was handed in."""
    write_seen(
        tmp_path,
        SeenImage(container="c", reference=HANDED["REPRISE_IMAGE"], manifest=MANIFEST, build_id=BUILD, layers=[LAYER]),
    )
    found = claim_image({}, run=tmp_path, baked=baked)
    assert (found.image.known, found.image.manifest, found.layers) == (Knowledge.VERIFIED, MANIFEST, [LAYER])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"REPRISE_BUILD_ID": OTHER}, f"is {OTHER} in .env; this image has {BUILD}: `scripts/setup`"),
        ({"REPRISE_BUILD_ID": "sha256:12"}, f"is no digest but 'sha256:12' in .env; this image has {BUILD}"),
        ({"REPRISE_BUILD_ID": ""}, "no image identity was passed"),
        ({"REPRISE_IMAGE": ""}, "no image identity was passed"),
        ({"REPRISE_ENVIRONMENT": "cuda"}, "'cuda'"),
        ({"REPRISE_IMAGE": "reprise/cpu:local", "REPRISE_IMAGE_CONFIG": ""}, "a tag can move"),
    ],
)
def test_anything_less_is_unknown_with_the_reason(baked: Path, change: dict[str, str], said: str) -> None:
    """The record never names a digest that is not known."""
    image = claim_image(HANDED | change, baked=baked).image
    assert (image.known, image.manifest, image.config) == (Knowledge.UNKNOWN, None, None)
    assert said in str(image.reason)
    assert image.build_id == BUILD


def test_two_build_ids_that_differ_are_both_shown(baked: Path) -> None:
    """The one that runs, and the one that was said."""
    image = claim_image(HANDED | {"REPRISE_BUILD_ID": OTHER}, baked=baked).image
    assert (image.build_id, image.handed_build_id) == (BUILD, OTHER)


def test_a_host_that_saw_another_build_is_not_believed(baked: Path, tmp_path: Path) -> None:
    """Neither is `.env`, when the engine contradicts the image."""
    write_seen(tmp_path, SeenImage(container="c", reference="x", build_id=OTHER))
    assert claim_image(HANDED, run=tmp_path, baked=baked).image.known is Knowledge.UNKNOWN


def test_outside_of_an_image_nothing_is_known(tmp_path: Path) -> None:
    """Whatever is handed in."""
    found = claim_image(HANDED, baked=tmp_path / "none.json")
    assert (found.image.known, found.baked, found.image.environment) == (Knowledge.UNKNOWN, None, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":"reprise.image/9"}'])
def test_a_damaged_statement_is_unknown_and_never_an_error(tmp_path: Path, text: str) -> None:
    """The run goes on; the record says what was wrong."""
    path = tmp_path / "image.json"
    path.write_text(text)
    image = claim_image(HANDED, baked=path).image
    assert image.known is Knowledge.UNKNOWN
    assert "image.json" in str(image.reason)


def test_a_host_whose_engine_saw_nothing_takes_nothing_away(baked: Path, tmp_path: Path) -> None:
    """What was handed in still counts, as far as `asserted` goes."""
    write_seen(tmp_path, SeenImage(container="c", reference=None, fault="no engine"))
    assert claim_image(HANDED, run=tmp_path, baked=baked).image.known is Knowledge.ASSERTED


def test_a_host_that_saw_an_image_without_a_build_is_not_believed(baked: Path, tmp_path: Path) -> None:
    """The reason says what it saw."""
    write_seen(tmp_path, SeenImage(container="c", reference="debian"))
    found = claim_image(HANDED, run=tmp_path, baked=baked).image
    assert (found.known, "without a build id" in str(found.reason)) == (Knowledge.UNKNOWN, True)


@pytest.mark.parametrize("watched", [False, True])
def test_an_image_of_composes_own_build_is_unknown_and_its_lock_is_still_known(
    baked: Path, tmp_path: Path, *, watched: bool
) -> None:
    """docker/describe says null there: the checkout's lock is held against the image's all the same."""
    baked.write_text(json.dumps(json.loads(baked.read_text()) | {"build_id": None}))
    if watched:
        write_seen(tmp_path, SeenImage(container="c", reference="x", build_id=BUILD))
    found = claim_image(HANDED, run=tmp_path, baked=baked)
    assert (found.image.known, found.image.build_id) == (Knowledge.UNKNOWN, None)
    assert "has no build id" in str(found.image.reason)
    assert found.baked is not None
    assert found.baked.lock == BUILD


def test_what_was_seen_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Reading is the inverse of writing."""
    seen: dict[str, Any] = {"container": "c", "reference": "r", "manifest": None, "config": CONFIG, "build_id": BUILD}
    write_seen(tmp_path, SeenImage(**seen))
    assert SeenImage.model_validate_json((tmp_path / "image-seen.json").read_text()) == SeenImage(**seen)
