"""An engine in memory: it builds by naming, and its registries are sets."""

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
    """Keeps what it was asked to build, in order, and what was pushed where."""

    said: EngineFacts | None = FACTS
    built: list[BuildRequest] = field(default_factory=list)
    held: dict[str, ImageFacts] = field(default_factory=dict)
    """By id."""
    registries: dict[str, ImageFacts] = field(default_factory=dict)
    """By reference."""
    running: set[str] = field(default_factory=set)
    """Compose services that run."""
    containers: dict[str, str] = field(default_factory=dict)
    """The image's id by the container's name."""
    stores: list[LocalStore] = field(default_factory=list)
    """Local stores that run."""
    volumes: set[str] = field(default_factory=set)
    confined: list[IsolatedContainer] = field(default_factory=list)
    """The containers that were trusted with nothing."""
    inside: Callable[[IsolatedContainer], int] = lambda _: 0
    """What happens in such a container."""

    def facts(self) -> EngineFacts:
        """What it was told to be."""
        if self.said is None:
            raise EngineAbsentError("no Docker engine answers")
        return self.said

    def image(self, reference: str) -> ImageFacts | None:
        """By id, tag or reference."""
        names = (image for image in self.held.values() if reference in {image.id, *image.tags, *image.references})
        return next(names, None)

    def images(self, label: str) -> list[ImageFacts]:
        """By one label, written `name=value`."""
        name, _, value = label.partition("=")
        return [image for image in self.held.values() if image.labels.get(name) == value]

    def build(self, request: BuildRequest) -> Digests:
        """The same request gives the same digest."""
        self.built.append(request)
        digest = digest_of_document([request.recipe, dict(request.arguments), request.stage])
        labels = {
            "reprise.environment": request.arguments["ENVIRONMENT"],
            "reprise.build-id": request.arguments["BUILD_ID"],
            "org.opencontainers.image.base.name": request.arguments["BASE"],
        }
        self.held[digest] = ImageFacts(
            id=digest,
            tags=(request.tag,),
            references=(f"{request.tag.rpartition(':')[0]}@{digest}",),
            layers=(digest_of_document([digest, "layer"]),),
            size=1,
            created="2026-01-01T00:00:00Z",
            labels=labels,
        )
        return self.digests(self.held[digest])

    def digests(self, image: ImageFacts) -> Digests:
        """A config is named after its manifest."""
        if not self.facts().keeps_manifests:
            return Digests(manifest=None, config=image.id)
        return Digests(manifest=image.id, config=digest_of_document([image.id, "config"]))

    def pull(self, reference: str) -> None:
        """Take a copy from the registry, under its reference."""
        if reference not in self.registries:
            raise ImageMissingError(f"{reference} is not in its registry")
        image = self.registries[reference]
        self.held[image.id] = replace(image, tags=(), references=(reference,))

    def push(self, image: ImageFacts, repository: str) -> str:
        """Keep it in the registry, and know it by that name."""
        reference = f"{repository}@{image.id}"
        self.registries[reference] = image
        self.held[image.id] = replace(image, references=(*image.references, reference))
        return reference

    def in_registry(self, reference: str) -> bool:
        """By reference."""
        return reference in self.registries

    def serves(self, project: str, service: str) -> bool:
        """By service."""
        return bool(project) and service in self.running

    def local_stores(self) -> list[LocalStore]:
        """Those that it was given."""
        return self.stores

    def has_volume(self, name: str) -> bool:
        """By name."""
        return name in self.volumes

    def image_of(self, container: str) -> ImageFacts | None:
        """By the container's name."""
        return self.held.get(self.containers.get(container, ""))

    def confine(self, container: IsolatedContainer, *, say: Callable[[str], None]) -> int:
        """Let happen what happens inside."""
        self.confined.append(container)
        say(f"in {container.name}")
        return self.inside(container)


def an_engine() -> Engine:
    """Proof to the type checker that the stand-in is an engine."""
    return MemoryEngine()
