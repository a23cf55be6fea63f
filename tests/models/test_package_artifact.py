"""Packages as artifacts in a real registry, and in a registry that returns false content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.certified import make_keys
from tests.environments.engine.registry import on_free_port
from tests.models.test_package_store import small_package
from tests.stores.scripted_registry import Scripted, ScriptedRegistry, scripted_registry
from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError, ObjectMissingError
from trainer.models.package import open_package, packages_in, write_package
from trainer.models.package_artifact import default_tag, manifest_of, pull_artifact, push_artifact
from trainer.models.package_signature import package_signature, sign_package
from trainer.stores.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.models.package import PackageFolder


@pytest.fixture
def opened(tmp_path: Path) -> PackageFolder:
    """A small package."""
    package, files = small_package()
    return open_package(write_package(package, files, runs=tmp_path / "here"))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running registry, Debian's docker-registry."""
    with on_free_port(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def registry(address: str) -> Registry:
    """A new name in the registry."""
    return Registry(address, f"team/dots-{uuid4().hex}", credentials=lambda _: None)


def test_a_pushed_package_is_pulled_with_the_same_bytes(
    opened: PackageFolder, registry: Registry, tmp_path: Path
) -> None:
    digest = push_artifact(opened, registry, tag=default_tag(opened.package), license_name="Apache-2.0")
    assert push_artifact(opened, registry, tag="2", license_name="Apache-2.0") == digest
    for reference in (digest, default_tag(opened.package), "2"):
        path, package = pull_artifact(registry, reference, runs=tmp_path / reference[-3:])
        assert package.digest == opened.package.digest
        assert open_package(path).files == opened.files
    with pytest.raises(ObjectMissingError, match="has no manifest 3"):
        pull_artifact(registry, "3", runs=tmp_path / "there")


def test_the_manifest_names_files_digest_run_and_license(opened: PackageFolder, registry: Registry) -> None:
    digest = push_artifact(opened, registry, tag="1", license_name="Apache-2.0")
    found = json.loads(registry.read_manifest(digest))
    assert found["artifactType"] == "application/vnd.reprise.package.v1+json"
    titles = {each["annotations"]["org.opencontainers.image.title"] for each in found["layers"]}
    assert titles == {"package.json", "package.sha256", *opened.files}
    about = found["annotations"]
    assert about["reprise.package"] == opened.package.digest
    assert (about["reprise.run"], about["org.opencontainers.image.licenses"]) == (opened.package.run, "Apache-2.0")


def test_a_signature_is_pushed_and_pulled(opened: PackageFolder, registry: Registry, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    sign_package(opened.path, opened.package, key=private)
    push_artifact(open_package(opened.path), registry, tag="1")
    path, package = pull_artifact(registry, "1", runs=tmp_path / "there")
    assert package_signature(path, package, key=public).startswith("good, by key")


def test_an_image_is_no_package(registry: Registry, tmp_path: Path) -> None:
    config = b"{}"
    registry.write_blob(config)
    layer = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of_bytes(config), "size": 2}
    media = "application/vnd.oci.image.manifest.v1+json"
    image = canonical({"schemaVersion": 2, "mediaType": media, "config": layer, "layers": []})
    registry.write_manifest(image, tag="1")
    with pytest.raises(DocumentError, match="is an image or an index of images; expected a package"):
        pull_artifact(registry, "1", runs=tmp_path / "there")


def scripted(opened: PackageFolder, server: ScriptedRegistry, **changes: Any) -> Registry:
    """Return a registry with a package whose manifest has changed values."""
    manifest, files = manifest_of(opened, license_name=None)
    found = json.loads(manifest.to_json()) | changes
    server.answers["GET /v2/team/dots/manifests/1"] = Scripted(body=json.dumps(found).encode())
    for body in files.values():
        server.answers[f"GET /v2/team/dots/blobs/{digest_of_bytes(body)}"] = Scripted(body=body)
    return Registry(server.address, "team/dots", credentials=lambda _: None)


def layers_of(opened: PackageFolder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(manifest_of(opened, license_name=None)[0].to_json())["layers"]
    return found


@pytest.mark.parametrize("name", ["package.json", "model.pt2", "certificate.json", "record.json"])
def test_a_file_with_other_bytes_leaves_no_package(opened: PackageFolder, tmp_path: Path, name: str) -> None:
    with scripted_registry() as server:
        registry = scripted(opened, server)
        layer = next(
            each for each in layers_of(opened) if each["annotations"]["org.opencontainers.image.title"] == name
        )
        server.answers[f"GET /v2/team/dots/blobs/{layer['digest']}"] = Scripted(body=b"x" * layer["size"])
        with pytest.raises(DigestMismatchError, match=layer["digest"]):
            pull_artifact(registry, "1", runs=tmp_path / "there")
    assert not packages_in(tmp_path / "there")


def test_a_manifest_that_swaps_files_is_rejected(opened: PackageFolder, tmp_path: Path) -> None:
    layers = layers_of(opened)
    by_name = {each["annotations"]["org.opencontainers.image.title"]: each for each in layers}
    by_name["model.pt2"]["digest"] = by_name["weights.safetensors"]["digest"]
    with scripted_registry() as server, pytest.raises(DigestMismatchError, match="the package lists sha256:"):
        pull_artifact(scripted(opened, server, layers=layers), "1", runs=tmp_path / "there")


def test_a_manifest_of_another_package_is_rejected(opened: PackageFolder, tmp_path: Path) -> None:
    stated = {"reprise.package": "sha256:" + "0" * 64}
    with scripted_registry() as server, pytest.raises(DigestMismatchError, match="states the package sha256:0000"):
        pull_artifact(scripted(opened, server, annotations=stated), "1", runs=tmp_path / "there")


@pytest.mark.parametrize("copies", [0, 2])
def test_a_manifest_without_each_file_once_is_rejected(opened: PackageFolder, tmp_path: Path, copies: int) -> None:
    layers = layers_of(opened)
    some = [each for each in layers if each["annotations"]["org.opencontainers.image.title"] == "model.pt2"]
    others = [each for each in layers if each not in some]
    with scripted_registry() as server, pytest.raises(DocumentError, match=f"has {copies} layers named model.pt2"):
        pull_artifact(scripted(opened, server, layers=others + copies * some), "1", runs=tmp_path / "there")
