"""An engine in memory: builds are recorded, and registries are dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_document
from trainer.base.errors import EngineAbsentError, ImageMissingError
from trainer.environments.engine import BuildRequest, Digests, EngineFacts, ImageFacts, IsolatedContainer, LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.environments.engine import Engine

FACTS = EngineFacts(
    version="26.1.5", storage="overlayfs", keeps_manifests=True, runtimes=("runc",), root=Path("/var/lib/docker")
)


@dataclass(kw_only=True)
class MemoryEngine:
    """An engine in memory, which records the requested builds in order and the pushed images."""

    info: EngineFacts | None = FACTS
    built: list[BuildRequest] = field(default_factory=list)
    images_by_id: dict[str, ImageFacts] = field(default_factory=dict)
    registries: dict[str, ImageFacts] = field(default_factory=dict)
    """Images by reference."""
    running: set[str] = field(default_factory=set)
    """Running Compose services."""
    containers: dict[str, str] = field(default_factory=dict)
    """The ID of each container's image."""
    stores: list[LocalStore] = field(default_factory=list)
    """Running local stores."""
    volumes: set[str] = field(default_factory=set)
    confined: list[IsolatedContainer] = field(default_factory=list)
    """Isolated containers that were started."""
    inside: Callable[[IsolatedContainer], int] = lambda _: 0
    """The function that is called in place of an isolated container."""

    def facts(self) -> EngineFacts:
        """Return `info`, or raise `EngineAbsentError` without it."""
        if self.info is None:
            raise EngineAbsentError("no Docker engine responds")
        return self.info

    def image(self, reference: str) -> ImageFacts | None:
        """Return an image by ID, tag or reference."""
        names = (
            image for image in self.images_by_id.values() if reference in {image.id, *image.tags, *image.references}
        )
        return next(names, None)

    def images(self, label: str) -> list[ImageFacts]:
        """Return the images with a label `name=value`."""
        name, _, value = label.partition("=")
        return [image for image in self.images_by_id.values() if image.labels.get(name) == value]

    def build(self, request: BuildRequest) -> Digests:
        """Record the request; equal requests have equal digests."""
        self.built.append(request)
        digest = digest_of_document([request.recipe, dict(request.arguments), request.stage])
        labels = {
            "reprise.environment": request.arguments["ENVIRONMENT"],
            "reprise.build-id": request.arguments["BUILD_ID"],
            "org.opencontainers.image.base.name": request.arguments["BASE"],
        }
        self.images_by_id[digest] = ImageFacts(
            id=digest,
            tags=(request.tag,),
            references=(f"{request.tag.rpartition(':')[0]}@{digest}",),
            layers=(digest_of_document([digest, "layer"]),),
            size=1,
            created="2026-01-01T00:00:00Z",
            labels=labels,
        )
        return self.digests(self.images_by_id[digest])

    def digests(self, image: ImageFacts) -> Digests:
        """Return the digests; the config's digest is derived from the manifest's digest."""
        if not self.facts().keeps_manifests:
            return Digests(manifest=None, config=image.id)
        return Digests(manifest=image.id, config=digest_of_document([image.id, "config"]))

    def pull(self, reference: str) -> None:
        """Copy an image from the registry, with its reference."""
        if reference not in self.registries:
            raise ImageMissingError(f"{reference} is not in its registry")
        image = self.registries[reference]
        self.images_by_id[image.id] = replace(image, tags=(), references=(reference,))

    def push(self, image: ImageFacts, repository: str) -> str:
        """Copy an image into the registry, and add the reference to it."""
        reference = f"{repository}@{image.id}"
        self.registries[reference] = image
        self.images_by_id[image.id] = replace(image, references=(*image.references, reference))
        return reference

    def in_registry(self, reference: str) -> bool:
        """Return whether the registry has the reference."""
        return reference in self.registries

    def serves(self, project: str, service: str) -> bool:
        """Return whether the service runs."""
        return bool(project) and service in self.running

    def local_stores(self) -> list[LocalStore]:
        """Return the running local stores."""
        return self.stores

    def has_volume(self, name: str) -> bool:
        """Return whether the volume exists."""
        return name in self.volumes

    def image_of(self, container: str) -> ImageFacts | None:
        """Return the image of a container."""
        return self.images_by_id.get(self.containers.get(container, ""))

    def confine(self, container: IsolatedContainer, *, say: Callable[[str], None]) -> int:
        """Record the container and call `inside` with it."""
        self.confined.append(container)
        say(f"in {container.name}")
        return self.inside(container)


def an_engine() -> Engine:
    """Return a `MemoryEngine`: the type checker verifies that it is an `Engine`."""
    return MemoryEngine()
