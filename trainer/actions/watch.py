"""Watching a started container, so that the image its run names is one that somebody outside of it has seen.

Knows what a launcher on the host leaves in the run folder. Refuses to start anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.digest import is_digest
from trainer.host.image_claim import Seen, write_seen

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine import Engine

BUILD_ID = "reprise.build-id"
"""The label by which an image names its inputs."""


def see(engine: Engine, container: str, *, folder: Path) -> Seen | None:
    """Write down in the run's folder which image the engine made the container of.

    None, and nothing is written, while there is no such container, and for an image that carries no build id: it is none of ours.
    """
    image = engine.image_of(container)
    if image is None:
        return None
    digests = engine.digests(image)
    build_id = image.labels.get(BUILD_ID, "")
    if not is_digest(build_id):
        return None
    seen = Seen(
        container=container,
        reference=image.references[0] if image.references else image.id,
        manifest=digests.manifest,
        config=digests.config,
        build_id=build_id,
        layers=list(image.layers),
    )
    write_seen(folder, seen)
    return seen
