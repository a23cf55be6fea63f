"""The digests of an image in an archive (OCI image layout in a tar file), whose index names manifests, and a manifest its config."""

from __future__ import annotations

import tarfile
from typing import IO, TYPE_CHECKING, Any, Final

from trainer.base.document import json_value
from trainer.base.errors import EngineError
from trainer.environments.engine import Digests

if TYPE_CHECKING:
    from pathlib import Path

_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_LARGEST: Final = 4 << 20
"""The maximum size of an index or a manifest in bytes, as in registries."""
_REBUILD: Final = "build it again: scripts/reprise image build"


def digests_of_archive(path: Path) -> Digests:
    """Return the digests of the image in an archive. Raise `EngineError` unless it holds exactly one image."""
    with tarfile.open(path) as archive:
        index = _json(archive, "index.json", path)
        manifests = index["manifests"]
        if len(manifests) != 1:
            raise EngineError(f"{path} holds {len(manifests)} images; expected one", hint=_REBUILD)
        manifest = str(manifests[0]["digest"])
        content = _json(archive, f"blobs/{manifest.replace(':', '/')}", path)
    return Digests(manifest=manifest, config=str(content["config"]["digest"]))


def config_in_stream(stream: IO[bytes], manifest: str) -> str | None:
    """Return the digest of the config from the stream of a saved image; `None` if the stream does not hold the manifest."""
    path = f"blobs/{manifest.replace(':', '/')}"
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.name == path and member.size <= _LARGEST and (body := archive.extractfile(member)):
                content = json_value(body.read(), where=path)
                return None if content.get("mediaType") in _INDEXES else str(content["config"]["digest"])
    return None


def _json(archive: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    try:
        body = archive.extractfile(name)
    except KeyError as fault:
        raise EngineError(f"{path} has no {name}: it is not an OCI image archive", hint=_REBUILD) from fault
    content: dict[str, Any] = json_value(body.read(_LARGEST), where=f"{name} of {path}") if body else {}
    return content
