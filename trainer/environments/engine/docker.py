"""Docker, by its own library: the one home of `docker`.

Knows how Docker's answers become ours, and how its refusals are worded. Refuses to know why anything is asked.
"""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import docker
import requests.exceptions
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig
from docker.types import Mount as DockerMount

from trainer.base.atomic_file import write_whole
from trainer.base.digest import Digest
from trainer.base.document import Document, read_json
from trainer.base.errors import DocumentError, EngineAbsentError, EngineError, ImageMissingError, MachineError
from trainer.environments.engine import Digests, EngineFacts, ImageFacts, LocalStore, buildx
from trainer.environments.engine.archive import config_in_stream, digests_of_archive
from trainer.environments.engine.log_lines import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docker import DockerClient

    from trainer.environments.engine import BuildRequest, Confined, Mount

_PATIENCE: Final = 600
"""Seconds that one request may take: loading a CUDA image is one."""
_GRACE: Final = 120
"""Seconds for a step to end and a checkpoint to be written, as in compose.yaml."""


_COMPOSE: Final = "com.docker.compose"


class _Kept(Document):
    """The digests of an image as they were once read out of it."""

    manifest: Digest
    config: Digest


class DockerEngine:
    """The engine of this machine, as `trainer.environments.engine.Engine`."""

    def __init__(self, *, kept: Path) -> None:
        """Talk to the engine that the environment names; `kept` is a folder for what it is slow to tell."""
        self._kept = kept
        self._opened: DockerClient | None = None

    def close(self) -> None:
        """Give the connections back."""
        if self._opened is not None:
            self._opened.close()

    def facts(self) -> EngineFacts:
        """Ask the engine about itself."""
        with _worded():
            info = self._client.info()
        return EngineFacts(
            version=str(info["ServerVersion"]),
            storage=str(info["Driver"]),
            keeps_manifests=any("io.containerd.snapshotter" in str(row) for row in info.get("DriverStatus") or []),
            runtimes=tuple(sorted(info.get("Runtimes") or {})),
            root=Path(str(info["DockerRootDir"])),
            devices=tuple(str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or []),
        )

    def image(self, reference: str) -> ImageFacts | None:
        """An image by tag or reference; None where the engine does not have it."""
        with _worded():
            try:
                return _facts(self._client.images.get(reference).attrs)
            except ImageNotFound:
                return None

    def images(self, label: str) -> list[ImageFacts]:
        """Every image that carries a label and a name, newest first."""
        with _worded():
            found = [str(row["Id"]) for row in self._client.api.images(filters={"label": label, "dangling": False})]
        images = [
            image for identity in dict.fromkeys(found) if (image := self.image(identity))
        ]  # one may have gone meanwhile
        return sorted(images, key=lambda facts: (facts.created, facts.tags), reverse=True)

    def build(self, request: BuildRequest) -> Digests:
        """Build through an OCI archive where the engine keeps manifests; straight into it, not bit for bit, where it does not."""
        if not self.facts().keeps_manifests:
            buildx.build(request, archive=None)
            return Digests(manifest=None, config=self._present(request.tag).id)
        with tempfile.TemporaryDirectory(prefix="reprise-build-") as folder:
            archive = Path(folder) / "image.tar"
            buildx.build(request, archive=archive)
            digests = digests_of_archive(archive)
            with _worded(), archive.open("rb") as body:
                self._client.images.load(body)
        self._keep(digests)
        return digests

    def digests(self, image: ImageFacts) -> Digests:
        """The digests of an image that the engine has; the config's is read out of the saved image once, then kept."""
        if not self.facts().keeps_manifests:
            return Digests(manifest=None, config=image.id)
        kept = self._kept / f"{image.id.removeprefix('sha256:')}.json"
        with suppress(DocumentError):
            return Digests(**read_json(kept, _Kept).model_dump())
        with _worded():
            chunks = self._client.api.get_image(image.id)
            config = config_in_stream(io.BufferedReader(_Chunks(iter(chunks))), image.id)
        if config is None:
            raise EngineError(
                f"image {image.id} names several platforms; expected one", hint="build it with `reprise image build`"
            )
        digests = Digests(manifest=image.id, config=config)
        self._keep(digests)
        return digests

    def pull(self, reference: str) -> None:
        """Fetch an image by reference. Raises `ImageMissingError` where the registry has none, or none answers."""
        with _worded(missing=f"{reference} is not in its registry", registry=reference.partition("/")[0]):
            self._client.images.pull(reference)

    def push(self, image: ImageFacts, repository: str) -> str:
        """Upload an image under its own digest and return the reference."""
        tag = f"build-{image.labels.get('reprise.build-id', image.id)[-64:][:12]}"
        with _worded():
            self._client.api.tag(image.id, repository, tag)
            for line in self._client.api.push(repository, tag=tag, stream=True, decode=True):
                if "error" in line:
                    self._client.api.remove_image(f"{repository}:{tag}", noprune=True)
                    said = f"the image could not be pushed to {repository}: {line['error']}"
                    raise EngineError(said, hint=_registry_hint(str(line["error"]), repository.partition("/")[0]))
        return f"{repository}@{image.id}"

    def in_registry(self, reference: str) -> bool:
        """Tell whether a registry has this manifest."""
        with _worded(registry=reference.partition("/")[0]):
            try:
                found = self._client.images.get_registry_data(reference)
            except (NotFound, ImageNotFound):
                return False
            except APIError as fault:
                if (
                    "not found" in str(fault.explanation).lower()
                    or "manifest unknown" in str(fault.explanation).lower()
                ):
                    return False
                raise
        return bool(found.id == reference.rpartition("@")[2])

    def serves(self, project: str, service: str) -> bool:
        """Tell whether a container of this compose service runs."""
        labels = [f"{_COMPOSE}.project={project}", f"{_COMPOSE}.service={service}"]
        with _worded():
            return bool(self._client.containers.list(filters={"label": labels, "status": "running"}))

    def local_stores(self) -> list[LocalStore]:
        """The local stores that run, of any checkout."""
        labels = [f"{_COMPOSE}.service=store", "reprise.environment=store"]
        with _worded():
            running = self._client.containers.list(filters={"label": labels, "status": "running"})
            found = [_local_store(container.attrs) for container in running]
        return [store for store in found if store is not None]

    def has_volume(self, name: str) -> bool:
        """Tell whether there is a volume of this name."""
        with _worded():
            try:
                self._client.volumes.get(name)
            except NotFound:
                return False
        return True

    def image_of(self, container: str) -> ImageFacts | None:
        """The image that a container was made of; None where no container has this name."""
        with _worded():
            try:
                return self.image(str(self._client.api.inspect_container(container)["Image"]))
            except NotFound:
                return None

    def confine(self, container: Confined, *, say: Callable[[str], None]) -> int:
        """Run a container to its end, trusted with nothing. Raises `EngineError`, `ImageMissingError`."""
        with _worded():
            made = self._client.containers.create(container.image, list(container.words), **confinement(container))
            try:
                made.start()
                told(made.logs(stream=True, follow=True), say)
                return int(made.wait()["StatusCode"])
            except BaseException:
                with suppress(APIError):
                    made.stop(timeout=_GRACE)
                raise
            finally:
                made.remove(force=True)

    def _present(self, reference: str) -> ImageFacts:
        found = self.image(reference)
        if found is None:
            raise ImageMissingError(f"{reference} is not on this machine", hint="reprise image build NAME")
        return found

    def _keep(self, digests: Digests) -> None:
        path = self._kept / f"{str(digests.manifest).removeprefix('sha256:')}.json"
        with suppress(OSError, MachineError):  # it is found out again
            self._kept.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"manifest": digests.manifest, "config": digests.config}) + "\n"
            write_whole(path, text.encode())

    @property
    def _client(self) -> DockerClient:
        if self._opened is None:
            self._opened = docker.from_env(timeout=_PATIENCE)
        return self._opened


def confinement(container: Confined) -> dict[str, Any]:
    """How a container that is trusted with nothing is made, in Docker's words."""
    return {
        "name": container.name,
        "entrypoint": list(container.program) or None,
        "environment": dict(container.variables),
        "user": container.user,
        "network_mode": container.network,
        "read_only": True,
        "tmpfs": {"/tmp": "mode=1777,exec", "/home/reprise": "mode=1777"},  # noqa: S108 - in the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 4096,
        "shm_size": container.memory,
        "mounts": [_mount(mount) for mount in container.mounts],
        "device_requests": [DeviceRequest(driver="nvidia", count=-1, capabilities=[["gpu"]])] if container.gpus else [],
        # the driver whose lines can be read back everywhere, and no more of them than a disk has room for
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "32m", "max-file": "2"}),
    }


def _mount(mount: Mount) -> DockerMount:
    if isinstance(mount.source, Path):
        return DockerMount(target=mount.target, source=str(mount.source), type="bind", read_only=not mount.writable)
    return DockerMount(target=mount.target, source=mount.source, type="volume", read_only=not mount.writable)


class _Chunks(io.RawIOBase):
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
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _local_store(attributes: Mapping[str, Any]) -> LocalStore | None:
    """A local store by its container; None if it is not one that another checkout can use."""
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
def _worded(*, missing: str = "the image is not on this machine", registry: str | None = None) -> Iterator[None]:
    """Word what Docker says when it refuses, or when it is not there; `registry`: the one that it was to ask."""
    try:
        yield
    except (ImageNotFound, NotFound) as fault:
        raise ImageMissingError(
            missing, hint="reprise image build NAME, or `reprise image restore NAME` where it is pinned"
        ) from fault
    except APIError as fault:
        said = str(fault.explanation or fault)
        hint = _registry_hint(said, registry) if registry else "reprise doctor"
        raise EngineError(f"the engine refused: {said}", hint=hint) from fault
    except (DockerException, requests.exceptions.ConnectionError) as fault:
        raise _absent(fault) from fault
    except requests.exceptions.Timeout as fault:
        raise EngineError(f"the engine did not answer within {_PATIENCE} s", hint="reprise doctor") from fault


def _registry_hint(said: str, registry: str) -> str:
    """What to do if a registry did not do what was asked, of which the engine `said` this."""
    if any(word in said.lower() for word in ("unauthorized", "denied", "no basic auth", "authentication required")):
        return f"docker login {registry}"
    return f"see whether {registry} answers this machine"


def _absent(fault: Exception) -> EngineAbsentError:
    text = str(fault)
    if "Permission denied" in text:
        return EngineAbsentError(
            "a Docker engine runs, but this user may not talk to it",
            hint="sudo usermod -aG docker $USER, then log in again",
        )
    return EngineAbsentError(
        "no Docker engine answers", hint="scripts/engine start, or scripts/engine ensure where none is installed"
    )
