"""Watching a started container: what a launcher outside of it leaves in the run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.environments.engine.memory import MemoryEngine
from trainer.base.digest import digest_of_bytes
from trainer.environments.engine import ImageFacts
from trainer.launch.watch import BUILD_ID, record_image
from trainer.runs.image_claim import SEEN

if TYPE_CHECKING:
    from pathlib import Path

ID = digest_of_bytes(b"an image")
BUILD = digest_of_bytes(b"its inputs")


def engine(labels: dict[str, str]) -> MemoryEngine:
    """An engine with one container, whose image has `labels`."""
    image = ImageFacts(
        id=ID, tags=(), references=(f"x/cpu@{ID}",), layers=(BUILD,), size=1, created="2026", labels=labels
    )
    return MemoryEngine(held={ID: image}, containers={"reprise-run": ID})


def test_what_the_engine_says_of_a_started_container_is_written_down(tmp_path: Path) -> None:
    """Reference, digests, layers and build id of the very image that the container was made of."""
    seen = record_image(engine({BUILD_ID: BUILD}), "reprise-run", folder=tmp_path)
    assert seen is not None
    assert (seen.reference, seen.build_id, seen.layers) == (f"x/cpu@{ID}", BUILD, [BUILD])
    assert (tmp_path / SEEN).exists()


def test_a_container_that_is_not_there_yet_leaves_nothing(tmp_path: Path) -> None:
    """The launcher asks again."""
    assert record_image(engine({BUILD_ID: BUILD}), "reprise-other", folder=tmp_path) is None
    assert not (tmp_path / SEEN).exists()


def test_an_image_of_somebody_elses_is_not_vouched_for(tmp_path: Path) -> None:
    """Without a build id there is nothing that the image could agree with; that it was seen is written, so that nobody waits."""
    seen = record_image(engine({}), "reprise-run", folder=tmp_path)
    assert seen is not None
    assert (seen.build_id, seen.config) == (None, None)
    assert (tmp_path / SEEN).exists()
