"""The engine interface, implemented with Docker's library. No other module imports `docker`."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import docker
import requests.exceptions
from docker import auth
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig
from docker.types import Mount as DockerMount

from trainer.base.atomic_file import write_whole
from trainer.base.digest import Digest
from trainer.base.document import Document, read_json
from trainer.base.errors import (
    DocumentError,
    EngineAbsentError,
    EngineError,
    ImageMissingError,
    MachineError,
    StoreDeniedError,
)
from trainer.environments.engine import Digests, EngineFacts, ImageFacts, LocalStore, buildx
from trainer.environments.engine.archive import config_in_stream, digests_of_archive
from trainer.environments.engine.log_lines import forward_lines
from trainer.stores.registry_reference import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docker import DockerClient

    from trainer.environments.engine import BuildRequest, IsolatedContainer, Mount

_TIMEOUT: Final = 600
"""The time limit of a request in seconds; loading a CUDA image is a long request."""
_GRACE: Final = 120
"""Seconds to complete a step and write a checkpoint, as in compose.yaml."""
_COMPOSE: Final = "com.docker.compose"


class _CachedDigests(Document):
    """The cached digests of an image."""

    manifest: Digest
    config: Digest


class DockerEngine:
    """An `Engine` that uses Docker's API."""

    def __init__(self, *, cache: Path) -> None:
        """Use the engine at DOCKER_HOST, or the default engine; `cache` is the folder in which digests are cached."""
        self._cache = cache
        self._connection: DockerClient | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()

    def facts(self) -> EngineFacts:
        """Return the facts about the engine."""
        with _docker_errors():
            info = self._client.info()
        return EngineFacts(
            version=str(info["ServerVersion"]),
            storage=str(info["Driver"]),
            keeps_manifests=any("io.containerd.snapshotter" in str(row) for row in info.get("DriverStatus") or []),
            runtimes=tuple(sorted(info.get("Runtimes") or {})),
            root=Path(str(info["DockerRootDir"])),
            architecture=str(info.get("Architecture") or "x86_64"),
            devices=tuple(str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or []),
        )

    def image(self, reference: str) -> ImageFacts | None:
        """Return an image by tag or reference; `None` if the engine does not have it."""
        with _docker_errors():
            try:
                return _facts(self._client.images.get(reference).attrs)
            except ImageNotFound:
                return None

    def images(self, label: str) -> list[ImageFacts]:
        """Return the images with a label and a name, newest first."""
        with _docker_errors():
            ids = [str(row["Id"]) for row in self._client.api.images(filters={"label": label, "dangling": False})]
        # an image may have been removed meanwhile
        images = [image for identity in dict.fromkeys(ids) if (image := self.image(identity))]
        return sorted(images, key=lambda facts: (facts.created, facts.tags), reverse=True)

    def build(self, request: BuildRequest) -> Digests:
        """Build through an OCI archive if the engine keeps manifests; otherwise directly, and not reproducibly."""
        if not self.facts().keeps_manifests:
            buildx.build(request, archive=None)
            return Digests(manifest=None, config=self._require_image(request.tag).id)
        with tempfile.TemporaryDirectory(prefix="reprise-build-") as folder:
            archive = Path(folder) / "image.tar"
            buildx.build(request, archive=archive)
            digests = digests_of_archive(archive)
            with _docker_errors(), archive.open("rb") as body:
                self._client.images.load(body)
        self._write_cache(digests)
        return digests

    def digests(self, image: ImageFacts) -> Digests:
        """Return the digests of an image; the config's digest is read from the saved image once and cached."""
        if not self.facts().keeps_manifests:
            return Digests(manifest=None, config=image.id)
        path = self._cache / f"{image.id.removeprefix('sha256:')}.json"
        with suppress(DocumentError):
            return Digests(**read_json(path, _CachedDigests).model_dump())
        with _docker_errors():
            chunks = self._client.api.get_image(image.id)
            config = config_in_stream(io.BufferedReader(_ChunkFile(iter(chunks))), image.id)
        if config is None:
            raise EngineError(
                f"image {image.id} has several platforms; expected one", hint="build it with `reprise image build`"
            )
        digests = Digests(manifest=image.id, config=config)
        self._write_cache(digests)
        return digests

    def pull(self, reference: str) -> None:
        """Pull an image by reference. Raise `ImageMissingError` if the registry does not have it."""
        with _docker_errors(missing=f"{reference} is not in its registry", registry=reference.partition("/")[0]):
            self._client.images.pull(reference)

    def push(self, image: ImageFacts, repository: str) -> str:
        """Push an image and return its reference, `repository@sha256:...`."""
        tag = f"build-{image.labels.get('reprise.build-id', image.id)[-64:][:12]}"
        with _docker_errors():
            self._client.api.tag(image.id, repository, tag)
            for line in self._client.api.push(repository, tag=tag, stream=True, decode=True):
                if "error" in line:
                    self._client.api.remove_image(f"{repository}:{tag}", noprune=True)
                    message = f"the image could not be pushed to {repository}: {line['error']}"
                    raise EngineError(message, hint=_registry_hint(str(line["error"]), repository.partition("/")[0]))
        return f"{repository}@{image.id}"

    def in_registry(self, reference: str) -> bool:
        """Return whether the registry has the manifest of a reference by digest."""
        with _docker_errors(registry=reference.partition("/")[0]):
            try:
                data = self._client.images.get_registry_data(reference)
            except (NotFound, ImageNotFound):
                return False
            except APIError as fault:
                if (
                    "not found" in str(fault.explanation).lower()
                    or "manifest unknown" in str(fault.explanation).lower()
                ):
                    return False
                raise
        return bool(data.id == reference.rpartition("@")[2])

    def serves(self, project: str, service: str) -> bool:
        """Return whether a container of a compose service is running."""
        labels = [f"{_COMPOSE}.project={project}", f"{_COMPOSE}.service={service}"]
        with _docker_errors():
            return bool(self._client.containers.list(filters={"label": labels, "status": "running"}))

    def local_stores(self) -> list[LocalStore]:
        """Return the running local stores of all checkouts."""
        labels = [f"{_COMPOSE}.service=store", "reprise.environment=store"]
        with _docker_errors():
            running = self._client.containers.list(filters={"label": labels, "status": "running"})
            stores = [_local_store(container.attrs) for container in running]
        return [store for store in stores if store is not None]

    def has_volume(self, name: str) -> bool:
        """Return whether a volume with this name exists."""
        with _docker_errors():
            try:
                self._client.volumes.get(name)
            except NotFound:
                return False
        return True

    def image_of(self, container: str) -> ImageFacts | None:
        """Return the image of a container; `None` if the container does not exist."""
        with _docker_errors():
            try:
                return self.image(str(self._client.api.inspect_container(container)["Image"]))
            except NotFound:
                return None

    def confine(self, container: IsolatedContainer, *, say: Callable[[str], None]) -> int:
        """Run an isolated container and return its exit status. Raise `ImageMissingError` if the engine does not have the image."""
        with _docker_errors():
            running = self._client.containers.create(container.image, list(container.words), **confinement(container))
            try:
                running.start()
                forward_lines(running.logs(stream=True, follow=True), say)
                return int(running.wait()["StatusCode"])
            except BaseException:
                with suppress(APIError):
                    running.stop(timeout=_GRACE)
                raise
            finally:
                running.remove(force=True)

    def _require_image(self, reference: str) -> ImageFacts:
        image = self.image(reference)
        if image is None:
            raise ImageMissingError(f"{reference} is not on this machine", hint="reprise image build NAME")
        return image

    def _write_cache(self, digests: Digests) -> None:
        path = self._cache / f"{str(digests.manifest).removeprefix('sha256:')}.json"
        with suppress(OSError, MachineError):  # without the cache, the digests are read from the image again
            self._cache.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"manifest": digests.manifest, "config": digests.config}) + "\n"
            write_whole(path, text.encode())

    @property
    def _client(self) -> DockerClient:
        if self._connection is None:
            self._connection = docker.from_env(timeout=_TIMEOUT)
        return self._connection


def confinement(container: IsolatedContainer) -> dict[str, Any]:
    """Return Docker's options for an isolated container."""
    return {
        "name": container.name,
        "entrypoint": list(container.program) or None,
        "environment": dict(container.variables),
        "user": container.user,
        "network_mode": container.network,
        "read_only": True,
        "tmpfs": {"/tmp": "mode=1777,exec", "/home/reprise": "mode=1777"},  # noqa: S108 - a path in the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 4096,
        "shm_size": container.memory,
        "mounts": [_mount(mount) for mount in container.mounts],
        "device_requests": [DeviceRequest(driver="nvidia", count=-1, capabilities=[["gpu"]])] if container.gpus else [],
        # a log driver whose output every engine can read back, with a size limit
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "32m", "max-file": "2"}),
    }


def _mount(mount: Mount) -> DockerMount:
    if isinstance(mount.source, Path):
        return DockerMount(target=mount.target, source=str(mount.source), type="bind", read_only=not mount.writable)
    return DockerMount(target=mount.target, source=mount.source, type="volume", read_only=not mount.writable)


class _ChunkFile(io.RawIOBase):
    """An iterator of bytes, read as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        block = self._rest[: len(buffer)]
        buffer[: len(block)] = block
        self._rest = self._rest[len(block) :]
        return len(block)


def _local_store(attributes: Mapping[str, Any]) -> LocalStore | None:
    """Return the local store that a container serves; `None` if other checkouts cannot use it."""
    variables = dict(line.partition("=")[::2] for line in attributes["Config"]["Env"] or [])
    published = (attributes["NetworkSettings"]["Ports"] or {}).get("8333/tcp") or []
    volumes = [str(mount["Name"]) for mount in attributes["Mounts"] if mount["Destination"] == "/store"]
    networks = sorted(attributes["NetworkSettings"]["Networks"])
    if not (published and volumes and networks):
        return None
    return LocalStore(
        project=str(attributes["Config"]["Labels"][f"{_COMPOSE}.project"]),
        port=int(published[0]["HostPort"]),
        network=networks[0],
        volume=volumes[0],
        key=variables.get("AWS_ACCESS_KEY_ID", ""),
        secret=variables.get("AWS_SECRET_ACCESS_KEY", ""),
    )


def _facts(attributes: Mapping[str, Any]) -> ImageFacts:
    return ImageFacts(
        id=str(attributes["Id"]),
        tags=tuple(attributes.get("RepoTags") or ()),
        references=tuple(attributes.get("RepoDigests") or ()),
        layers=tuple((attributes.get("RootFS") or {}).get("Layers") or ()),
        size=int(attributes.get("Size") or 0),
        created=str(attributes.get("Created") or ""),
        labels=dict((attributes.get("Config") or {}).get("Labels") or {}),
    )


@contextmanager
def _docker_errors(*, missing: str = "the image is not on this machine", registry: str | None = None) -> Iterator[None]:
    """Translate Docker's exceptions; `missing` is the message for a missing image, `registry` the registry of the operation."""
    try:
        yield
    except (ImageNotFound, NotFound) as fault:
        raise ImageMissingError(
            missing, hint="reprise image build NAME, or `reprise image restore NAME` if it is pinned"
        ) from fault
    except APIError as fault:
        message = str(fault.explanation or fault)
        hint = _registry_hint(message, registry) if registry else "reprise doctor"
        raise EngineError(f"the engine reported: {message}", hint=hint) from fault
    except (DockerException, requests.exceptions.ConnectionError) as fault:
        raise _absent(fault) from fault
    except requests.exceptions.Timeout as fault:
        raise EngineError(f"the engine did not respond within {_TIMEOUT} s", hint="reprise doctor") from fault


def _registry_hint(message: str, registry: str) -> str:
    """Return the hint for an error of a registry."""
    if any(word in message.lower() for word in ("unauthorized", "denied", "no basic auth", "authentication required")):
        return f"docker login {registry}"
    return f"check that this machine can reach {registry}"


def _absent(fault: Exception) -> EngineAbsentError:
    text = str(fault)
    if "Permission denied" in text:
        return EngineAbsentError(
            "a Docker engine runs, but this user has no permission to use it",
            hint="sudo usermod -aG docker $USER, then log in again",
        )
    return EngineAbsentError(
        "no Docker engine responds",
        hint="scripts/machine/engine start, or scripts/machine/engine ensure if none is installed",
    )


def registry_credentials(host: str) -> Credentials | None:
    """Return the credentials that `docker login` stored for a registry; `None` if there are none.

    Raise `StoreDeniedError` if they cannot be read.
    """
    try:
        found: Mapping[str, Any] = auth.resolve_authconfig(auth.load_config(), registry=host) or {}
    except (DockerException, ValueError) as fault:
        message = f"the credentials for {host} in Docker's config.json cannot be read: {type(fault).__name__}"
        raise StoreDeniedError(message, hint=f"docker login {host}") from fault
    values = {name.lower(): str(value) for name, value in found.items() if value}
    if not values.keys() & {"username", "identitytoken"}:
        return None
    return Credentials(
        username=values.get("username", ""),
        password=values.get("password", ""),
        identity_token=values.get("identitytoken", ""),
    )
