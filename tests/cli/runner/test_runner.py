"""A record can be rerun in this process only if the process has the recorded, unchanged image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.comparison.test_rerun import MANIFEST, a_record
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DriftError, ImageMismatchError
from trainer.cli.runner import check_drift, check_image, is_recorded
from trainer.runs.record import Image, Knowledge

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.record import Record

BUILD, CONFIG, LAYER = (digest_of_bytes(word) for word in (b"build", b"config", b"layer"))
REFERENCE = f"registry.example/cpu@{MANIFEST}"
HANDED = {
    "REPRISE_ENVIRONMENT": "cpu",
    "REPRISE_IMAGE": REFERENCE,
    "REPRISE_IMAGE_CONFIG": CONFIG,
    "REPRISE_IMAGE_LAYERS": LAYER,
    "REPRISE_BUILD_ID": BUILD,
}


@pytest.fixture
def image_record() -> Record:
    image = Image(known=Knowledge.ASSERTED, reference=REFERENCE, manifest=MANIFEST, config=CONFIG, build_id=BUILD)
    return a_record(image=image)


@pytest.fixture
def image_statement(tmp_path: Path) -> Path:
    path = tmp_path / "image.json"
    expected = {"format": "reprise.image/1", "environment": "cpu", "build_id": BUILD, "lock": digest_of_bytes(b"lock")}
    path.write_text(json.dumps(expected))
    return path


def test_the_recorded_image_is_identified_by_its_layers(image_record: Record, image_statement: Path) -> None:
    assert is_recorded(image_record, HANDED, baked=image_statement)
    assert not is_recorded(image_record, HANDED | {"REPRISE_IMAGE_LAYERS": BUILD}, baked=image_statement)


def test_a_typed_digest_is_enough_if_the_image_matches(image_record: Record, image_statement: Path) -> None:
    typed = {"REPRISE_IMAGE": REFERENCE, "REPRISE_BUILD_ID": LAYER, "REPRISE_IMAGE_LAYERS": LAYER}
    assert is_recorded(image_record, typed, baked=image_statement)
    assert not is_recorded(
        image_record, typed | {"REPRISE_IMAGE": f"registry.example/cpu@{LAYER}"}, baked=image_statement
    )
    image_statement.write_text(image_statement.read_text().replace(BUILD, CONFIG))
    assert not is_recorded(image_record, typed, baked=image_statement)


def test_another_image_is_rejected_with_the_command_to_type(image_record: Record) -> None:
    with pytest.raises(ImageMismatchError) as caught:
        check_image(image_record)
    assert f"REPRISE_IMAGE={REFERENCE} docker compose run --rm train reproduce {image_record.run}" in str(
        caught.value.hint
    )


def test_drift_is_rejected_with_its_differences() -> None:
    check_drift([])
    with pytest.raises(DriftError, match=r"extra 1\.0 \(and 1 more\)"):
        check_drift(["distributions here and not in the image: extra 1.0", "more"])
