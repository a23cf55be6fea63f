"""The engine: what builds and runs containers, as the rest of the package sees it.

Defines the operations of an engine and the facts about an image. `trainer.environments.engine.docker` implements them with Docker,
`tests.environments.engine.memory` in memory for tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine says about itself."""

    version: str
    storage: str
    keeps_manifests: bool
    """Whether a local image has a manifest digest (the containerd store). Without one, an image is known by its config alone."""
    runtimes: tuple[str, ...]
    root: Path
    """Where its images lie."""
    devices: tuple[str, ...] = ()
    """Devices it can hand in by name (CDI), such as `nvidia.com/gpu=all`."""

    @property
    def nvidia(self) -> bool:
        """Whether containers can be given NVIDIA GPUs."""
        return "nvidia" in self.runtimes or any(name.startswith("nvidia.com/gpu") for name in self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What an engine says about an image that it has."""

    id: str
    """The manifest's digest where the engine keeps manifests, else the config's."""
    tags: tuple[str, ...]
    references: tuple[str, ...]
    """`repository@sha256:...`, each good for running exactly this image."""
    layers: tuple[str, ...]
    """Diff IDs, the base first."""
    size: int
    """Bytes."""
    created: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """An image's names by content."""

    manifest: str | None
    config: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build: the recipe's text and everything that is handed in beside the checkout."""

    recipe: str
    root: Path
    stage: str
    tag: str
    arguments: Mapping[str, str]
    secrets: Mapping[str, Path]
    contexts: Mapping[str, str]
    epoch: int
    host_network: bool = False
    fresh: bool = False
    """Use no cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or a file of this machine, or one of the engine's volumes, at a place in a container."""

    source: Path | str
    """A path, or a volume's name."""
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStore:
    """A local store that runs on this engine: the `store` service of some checkout."""

    project: str
    port: int
    """On 127.0.0.1."""
    network: str
    """Where containers reach it as `store`."""
    volume: str
    key: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """A container that is trusted with nothing: no network, no capability, no new privilege, a root that cannot be written."""

    name: str
    image: str
    """By digest."""
    words: tuple[str, ...]
    variables: Mapping[str, str]
    mounts: tuple[Mount, ...]
    user: str
    """`uid:gid`."""
    program: tuple[str, ...] = ()
    """What is started, where it is not what the image starts."""
    gpus: bool = False
    memory: int = 2 << 30
    """Bytes of shared memory, for loader workers."""
    network: str = "none"
    """The network that it was granted."""


class Engine(Protocol):
    """What is asked of an engine. Every method raises `EngineAbsentError` where none answers, `EngineError` where it refuses."""

    def facts(self) -> EngineFacts:
        """Ask the engine about itself."""
        ...

    def image(self, reference: str) -> ImageFacts | None:
        """An image by tag or reference; None where the engine does not have it."""
        ...

    def images(self, label: str) -> list[ImageFacts]:
        """Every image that carries a label, newest first."""
        ...

    def build(self, request: BuildRequest) -> Digests:
        """Build, bit for bit the same from the same inputs where the engine can, and tag the result. Raises `ImageBuildError`."""
        ...

    def digests(self, image: ImageFacts) -> Digests:
        """The digests of an image that the engine has."""
        ...

    def pull(self, reference: str) -> None:
        """Fetch an image by reference."""
        ...

    def push(self, image: ImageFacts, repository: str) -> str:
        """Upload an image under its own digest and return the reference, `repository@sha256:...`."""
        ...

    def in_registry(self, reference: str) -> bool:
        """Tell whether a registry has this manifest."""
        ...

    def serves(self, project: str, service: str) -> bool:
        """Tell whether a container of this compose service runs."""
        ...

    def local_stores(self) -> list[LocalStore]:
        """The local stores that run, of any checkout."""
        ...

    def has_volume(self, name: str) -> bool:
        """Tell whether there is a volume of this name."""
        ...

    def image_of(self, container: str) -> ImageFacts | None:
        """The image that a container was made of; None where no container has this name."""
        ...

    def confine(self, container: Confined, *, say: Callable[[str], None]) -> int:
        """Run a container to its end, hand over each line that it prints, and return its exit status; nothing of it stays.

        Ctrl-C and SIGTERM stop it as `docker stop` does: it has two minutes to end its step.
        """
        ...
