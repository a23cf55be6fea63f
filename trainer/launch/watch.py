"""Inspecting a started container from the host, so that the record can state that its image is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.digest import is_digest
from trainer.runs.image_claim import SeenImage, write_seen

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.engine import Engine

BUILD_ID = "reprise.build-id"
"""The label with an image's build id."""


def record_image(engine: Engine, container: str, *, folder: Path) -> SeenImage | None:
    """Write the image of a container into the run's folder; return `None` if there is no such container yet.

    If the image has no build id, Reprise did not build it: only its name is written, since reading its digests could take long.
    """
    image = engine.image_of(container)
    if image is None:
        return None
    reference = image.references[0] if image.references else image.id
    build_id = image.labels.get(BUILD_ID, "")
    if is_digest(build_id):
        digests = engine.digests(image)
        seen = SeenImage(
            container=container,
            reference=reference,
            manifest=digests.manifest,
            config=digests.config,
            build_id=build_id,
            layers=list(image.layers),
        )
    else:
        seen = SeenImage(container=container, reference=reference)
    write_seen(folder, seen)
    return seen


def record_engine_fault(container: str, *, folder: Path, fault: str) -> None:
    """Write into the run's folder that the engine could not be asked, so that the run in the container does not wait for it."""
    write_seen(folder, SeenImage(container=container, reference=None, fault=fault))
