"""Find the image that a record names: on this machine by digest, else in the registry of its reference.

An image matches if its layers are the record's and its manifest or config digest is too. Tags are not trusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import EngineError, ImageMissingError

if TYPE_CHECKING:
    from trainer.comparison.rerun import ImageName
    from trainer.environments.engine import Engine, ImageFacts

LOCAL = "localhost/"
"""The repository prefix of images that were built on the machine, which are in no registry."""


def find_image(name: ImageName, *, engine: Engine) -> ImageFacts | None:
    """Return the image on this machine; `None` if it is not here. An image with the right digest but other layers does not match."""
    for reference in filter(None, (name.manifest, name.config, name.reference)):
        image = engine.image(reference)
        if image is not None and _is(image, name):
            return image
    return None


def obtainable(name: ImageName, *, engine: Engine) -> bool:
    """Return whether the image's registry has it. Raise `EngineError` if the registry does not answer."""
    return bool(registry_of(name)) and engine.in_registry(str(name.reference))


def registry_of(name: ImageName) -> str | None:
    """Return the image's registry; `None` for an image that was built on the machine and never pushed."""
    return None if name.reference is None or name.reference.startswith(LOCAL) else name.reference.partition("/")[0]


def obtain_image(name: ImageName, *, engine: Engine) -> ImageFacts:
    """Return the image, fetched if it is not here. Raise `ImageMissingError`, `EngineError`."""
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
