"""Watching a started container, so that the image its run names is one that somebody outside of it has seen.

Knows what a launcher on the host leaves in the run folder. Refuses to start anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.digest import is_digest
from trainer.runs.image_claim import Seen, write_seen

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.engine import Engine

BUILD_ID = "reprise.build-id"
"""The label by which an image names its inputs."""


def see(engine: Engine, container: str, *, folder: Path) -> Seen | None:
    """Write down in the run's folder which image the engine made the container of.

    None, and nothing is written, while there is no such container. Of an image that carries no build id only the name is written: it is
    none of ours, and asking the engine for its digests could take long.
    """
    image = engine.image_of(container)
    if image is None:
        return None
    reference = image.references[0] if image.references else image.id
    build_id = image.labels.get(BUILD_ID, "")
    if is_digest(build_id):
        digests = engine.digests(image)
        seen = Seen(
            container=container,
            reference=reference,
            manifest=digests.manifest,
            config=digests.config,
            build_id=build_id,
            layers=list(image.layers),
        )
    else:
        seen = Seen(container=container, reference=reference)
    write_seen(folder, seen)
    return seen


def see_nothing(container: str, *, folder: Path, fault: str) -> None:
    """Write down that the engine could not be asked, so that the run in the container does not wait for it."""
    write_seen(folder, Seen(container=container, reference=None, fault=fault))
