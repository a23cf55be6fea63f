"""Model packages in an OCI registry: an artifact with a layer for each file, so that equal packages have equal manifests.

    artifactType  application/vnd.reprise.package.v1+json
    config        the empty document of OCI 1.1
    layers        package.json, package.sha256, the files that package.json lists, and package.dsse.json if the package is signed; each
                  with its name as `org.opencontainers.image.title`

A program that writes the layers to files with these titles creates the folder of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from trainer.base.digest import Digest, canonical, digest_of_bytes
from trainer.base.document import Count, Document, json_value, typed
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.suggestions import short
from trainer.models.package import (
    CARD,
    CERTIFICATE,
    CHECKSUM,
    GOLDEN,
    MOST_DOCUMENT,
    ONNX,
    PACKAGE,
    PROGRAM,
    RECORD,
    SIGNATURE,
    WEIGHTS,
    checksum_line,
    parsed_package,
    require_certificate,
    write_package,
)
from trainer.stores.registry import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.models.package import Package, PackageFolder
    from trainer.stores.registry import Registry

ARTIFACT: Final = "application/vnd.reprise.package.v1+json"
_EMPTY: Final = b"{}"
_TITLE: Final = "org.opencontainers.image.title"
_LICENSES: Final = "org.opencontainers.image.licenses"
_DIGEST: Final = "reprise.package"
_TENSORS: Final = "application/vnd.reprise.package.tensors.v1"
_MEDIA: Final = {
    PACKAGE: ARTIFACT,
    CHECKSUM: "text/plain",
    PROGRAM: "application/vnd.reprise.package.program.v1+zip",
    ONNX: "application/vnd.reprise.package.graph.v1+onnx",
    WEIGHTS: _TENSORS,
    GOLDEN: _TENSORS,
    RECORD: "application/json",
    CERTIFICATE: "application/json",
    CARD: "text/markdown",
    SIGNATURE: "application/vnd.dsse.envelope.v1+json",
}
"""The media types of the files."""
_AGAIN: Final = "push it again: reprise packages push PACKAGE --to REGISTRY/NAME:TAG"


class Layer(Document):
    """A file in a manifest."""

    media_type: str = Field(alias="mediaType")
    digest: Digest
    size: Count
    annotations: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)

    @property
    def title(self) -> str:
        """The name of the file."""
        return self.annotations.get(_TITLE, "")


class Manifest(Document):
    """The manifest of a package."""

    schema_version: Literal[2] = Field(default=2, alias="schemaVersion")
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = Field(default=MANIFEST, alias="mediaType")
    artifact_type: Literal["application/vnd.reprise.package.v1+json"] = Field(default=ARTIFACT, alias="artifactType")
    config: Layer
    layers: tuple[Layer, ...]
    annotations: dict[str, str]

    def to_json(self) -> bytes:
        """Serialize the manifest. Equal packages have equal bytes."""
        return canonical(self.model_dump(mode="json", by_alias=True))

    def layer(self, title: str) -> Layer:
        """Return the layer of the file `title`. Raise `DocumentError` unless exactly one layer has this title."""
        found = [each for each in self.layers if each.title == title]
        if len(found) != 1:
            raise DocumentError(f"the artifact has {len(found)} layers named {title}; expected one", hint=_AGAIN)
        return found[0]


def manifest_of(opened: PackageFolder, *, license_name: str | None) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest of a package and the files of its layers by name."""
    package = opened.package
    text = package.to_json()
    files = {PACKAGE: text, CHECKSUM: checksum_line(text), **opened.files}
    if opened.signature is not None:
        files[SIGNATURE] = opened.signature
    layers = [_layer(_MEDIA[name], body, {_TITLE: name}) for name, body in sorted(files.items())]
    config = _layer("application/vnd.oci.empty.v1+json", _EMPTY, {})
    return Manifest(config=config, layers=tuple(layers), annotations=_annotations(package, license_name)), files


def push_artifact(opened: PackageFolder, registry: Registry, *, tag: str, license_name: str | None = None) -> str:
    """Push a package and return the digest of its manifest. Blobs that the registry has are not sent. Raise `StoreError` if it fails."""
    manifest, files = manifest_of(opened, license_name=license_name)
    for body in (*files.values(), _EMPTY):
        registry.write_blob(body)
    return registry.write_manifest(manifest.to_json(), tag=tag)


def pull_artifact(registry: Registry, reference: str, *, runs: Path) -> tuple[Path, Package]:
    """Fetch the package that `reference`, a tag or the digest of a manifest, names into `runs`. Return its folder and its document.

    Raise `DocumentError` if the artifact is not a valid package, `DigestMismatchError` if a file does not have the listed digest, and
    `StoreError` if the registry cannot be read.
    """
    where = f"{registry.label} {reference}"
    manifest = _manifest(registry.read_manifest(reference), where)
    text = _read(registry, manifest.layer(PACKAGE), most=MOST_DOCUMENT)
    package = parsed_package(text, f"{PACKAGE} of {where}")
    if manifest.annotations.get(_DIGEST) != package.digest:
        message = (
            f"{where} states the package {short(manifest.annotations.get(_DIGEST, 'none'))}; it holds {package.digest}"
        )
        raise DigestMismatchError(message, hint=_AGAIN)
    files: dict[str, bytes] = {}
    for each in package.files:
        layer = manifest.layer(each.path)
        if (layer.digest, layer.size) != (each.sha256, each.bytes):
            message = f"{each.path} of {where} is {layer.digest}; the package lists {each.sha256}"
            raise DigestMismatchError(message, hint=_AGAIN)
        files[each.path] = _read(registry, layer, most=each.bytes)
    require_certificate(files, where)
    signed = any(layer.title == SIGNATURE for layer in manifest.layers)
    signature = _read(registry, manifest.layer(SIGNATURE), most=MOST_DOCUMENT) if signed else None
    return write_package(package, files, runs=runs, signature=signature), package


def default_tag(package: Package) -> str:
    """Return the default tag of a package: its name, or the end of it if the name is too long for a tag."""
    return package.name.lstrip("-")[-_LONGEST_TAG:].lstrip("-")


_LONGEST_TAG: Final = 128


def _layer(media: str, body: bytes, annotations: dict[str, str]) -> Layer:
    return Layer(mediaType=media, digest=digest_of_bytes(body), size=len(body), annotations=annotations)


def _annotations(package: Package, license_name: str | None) -> dict[str, str]:
    found = {
        _TITLE: package.name,
        _DIGEST: package.digest,
        "reprise.run": package.run,
        "reprise.experiment": package.experiment,
        "reprise.identity": package.identity,
    }
    if package.dataset is not None:
        found["reprise.dataset-license"] = package.dataset.license
    return found if license_name is None else {**found, _LICENSES: license_name}


def _manifest(text: bytes, where: str) -> Manifest:
    content = json_value(text, where=where)
    kind = content.get("artifactType") if isinstance(content, dict) else None
    if kind != ARTIFACT:
        found = f"an artifact of type {short(str(kind))}" if kind else "an image or an index of images"
        raise DocumentError(f"{where} is {found}; expected a package, {ARTIFACT}", hint=_AGAIN)
    return typed(content, Manifest, where=where)


def _read(registry: Registry, layer: Layer, *, most: int) -> bytes:
    if layer.size > most:
        message = f"{layer.title} in {registry.label} has {layer.size:,} bytes; expected at most {most:,}"
        raise DocumentError(message, hint=_AGAIN)
    return registry.read_blob(layer.digest, size=layer.size)
