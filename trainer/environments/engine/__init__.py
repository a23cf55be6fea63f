"""The interface of a container engine, implemented by `docker.py` with Docker and by `tests.environments.engine.memory` for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The facts about an engine."""

    version: str
    storage: str
    keeps_manifests: bool
    """Whether local images have a manifest digest (the containerd store); otherwise images are identified by config only."""
    runtimes: tuple[str, ...]
    root: Path
    """The folder with the engine's data, such as images."""
    devices: tuple[str, ...] = ()
    """Devices that containers can use by name (CDI), such as `nvidia.com/gpu=all`."""
    architecture: str = "x86_64"
    """The architecture that images are built for, as `uname -m` prints it."""

    @property
    def nvidia(self) -> bool:
        """Whether containers can use NVIDIA GPUs."""
        return "nvidia" in self.runtimes or any(name.startswith("nvidia.com/gpu") for name in self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """The facts about an image in an engine."""

    id: str
    """The digest of the manifest if the engine keeps manifests, otherwise of the config."""
    tags: tuple[str, ...]
    references: tuple[str, ...]
    """The image's names by digest, `repository@sha256:...`."""
    layers: tuple[str, ...]
    """Diff IDs, the layers of the base first."""
    size: int
    """The size in bytes."""
    created: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """The digests of an image."""

    manifest: str | None
    config: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A build: the recipe's text, the context, and the inputs outside of the checkout."""

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
    """Whether to build without the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mount of a folder, a file or a volume in a container."""

    source: Path | str
    """A path, or the name of a volume."""
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStore:
    """A running local store: the `store` service of a checkout."""

    project: str
    port: int
    """The port on 127.0.0.1."""
    network: str
    """The network in which containers reach the store at the host name `store`."""
    volume: str
    key: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedContainer:
    """An isolated container: no network, no capabilities, no new privileges, a read-only root."""

    name: str
    image: str
    """The image by digest."""
    words: tuple[str, ...]
    variables: Mapping[str, str]
    mounts: tuple[Mount, ...]
    user: str
    """`uid:gid`."""
    program: tuple[str, ...] = ()
    """The program to start instead of the image's entry point."""
    gpus: bool = False
    memory: int = 2 << 30
    """The size of shared memory in bytes; loader workers use it."""
    network: str = "none"
    """The network that the container may use."""


class Engine(Protocol):
    """A container engine. Methods raise `EngineAbsentError` if it does not respond, and `EngineError` if an operation fails."""

    def facts(self) -> EngineFacts:
        """Return the facts about the engine."""
        ...

    def image(self, reference: str) -> ImageFacts | None:
        """Return an image by tag or reference; `None` if the engine does not have it."""
        ...

    def images(self, label: str) -> list[ImageFacts]:
        """Return the images with a label, newest first."""
        ...

    def build(self, request: BuildRequest) -> Digests:
        """Build and tag an image, reproducibly if the engine keeps manifests. Raise `ImageBuildError` if the build fails."""
        ...

    def digests(self, image: ImageFacts) -> Digests:
        """Return the digests of an image in the engine."""
        ...

    def pull(self, reference: str) -> None:
        """Pull an image by reference."""
        ...

    def push(self, image: ImageFacts, repository: str) -> str:
        """Push an image and return its reference, `repository@sha256:...`."""
        ...

    def in_registry(self, reference: str) -> bool:
        """Return whether the registry has the manifest of a reference by digest."""
        ...

    def serves(self, project: str, service: str) -> bool:
        """Return whether a container of a compose service is running."""
        ...

    def local_stores(self) -> list[LocalStore]:
        """Return the running local stores of all checkouts."""
        ...

    def has_volume(self, name: str) -> bool:
        """Return whether a volume with this name exists."""
        ...

    def image_of(self, container: str) -> ImageFacts | None:
        """Return the image of a container; `None` if the container does not exist."""
        ...

    def confine(self, container: IsolatedContainer, *, say: Callable[[str], None]) -> int:
        """Run an isolated container, pass each line of its output to `say`, remove it, and return its exit status.

        Ctrl-C and SIGTERM stop it as `docker stop` does, with a grace period of two minutes.
        """
        ...
