"""Finding the image that a record names: here by digest, else in the registry that it names.

Knows when an image is the one: its layers are the record's, and its manifest or its config is. Refuses to take a tag's word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import EngineError, ImageMissingError

if TYPE_CHECKING:
    from trainer.comparison.rerun import ImageName
    from trainer.environments.engine import Engine, ImageFacts

LOCAL = "localhost/"
"""A repository that is no registry: images that were built on the machine."""


def find_image(name: ImageName, *, engine: Engine) -> ImageFacts | None:
    """The image on this machine; None where it is not. An image under its digest with other layers is none of ours."""
    for reference in filter(None, (name.manifest, name.config, name.reference)):
        image = engine.image(reference)
        if image is not None and _is(image, name):
            return image
    return None


def obtainable(name: ImageName, *, engine: Engine) -> bool:
    """Whether the registry that the record names has the image. Raises `EngineError` where it does not answer."""
    return bool(registry_of(name)) and engine.in_registry(str(name.reference))


def registry_of(name: ImageName) -> str | None:
    """The registry that the record names; None for an image that was built on the machine and never pushed."""
    return None if name.reference is None or name.reference.startswith(LOCAL) else name.reference.partition("/")[0]


def obtain_image(name: ImageName, *, engine: Engine) -> ImageFacts:
    """The image, fetched if it is not here. Raises `ImageMissingError`, `EngineError`."""
    if image := find_image(name, engine=engine):
        return image
    if name.reference is None or not registry_of(name):
        said = f"the recorded image {name.reference or name.manifest or name.config} is not on this machine, and is in no registry"
        raise ImageMissingError(said, hint=f"{REBUILD}, or `docker load` it from a machine that has it")
    engine.pull(name.reference)
    if image := find_image(name, engine=engine):
        return image
    raise EngineError(f"{name.reference} was fetched, and is not the image of the record", hint="do not use it")


REBUILD = "`reprise image build ENVIRONMENT` in the run's source gives the same one"


def _is(image: ImageFacts, name: ImageName) -> bool:
    digests = {image.id, *(reference.rpartition("@")[2] for reference in image.references)}
    return list(image.layers) == name.layers and not digests.isdisjoint({name.manifest, name.config} - {None})
