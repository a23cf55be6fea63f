"""Docker: bit-identical builds, digests, registries, and the errors without Docker."""

from __future__ import annotations

import base64
import json
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.environments.engine.registry import on_free_port
from trainer.base.errors import EngineError, ImageBuildError, ImageMissingError
from trainer.environments.engine import BuildRequest
from trainer.environments.engine.docker import DockerEngine, registry_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.environments.engine import ImageFacts

RECIPE = 'FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY file /file\nLABEL reprise.test="{name}"\n'


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DockerEngine]:
    """Return the engine of this machine with an empty cache."""
    with closing(DockerEngine(cache=tmp_path / "kept")) as opened:
        yield opened


@pytest.fixture
def request_(tmp_path: Path) -> Iterator[BuildRequest]:
    """Return a build of one small file with a unique name; the image is removed afterwards."""
    name = uuid4().hex[:12]
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("content\n")
    tag = f"localhost/reprise-test/{name}:1"
    yield BuildRequest(
        recipe=RECIPE.format(name=name),
        root=root,
        stage="",
        tag=tag,
        arguments={},
        secrets={},
        contexts={},
        epoch=1767225600,
        fresh=True,
    )
    subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True, check=False)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with on_free_port(tmp_path / "registry") as address:
        yield address


def build_image(engine: DockerEngine, request: BuildRequest) -> ImageFacts:
    engine.build(request)
    image = engine.image(request.tag)
    assert image is not None
    return image


@pytest.mark.engine
def test_two_builds_without_a_cache_are_bit_identical(engine: DockerEngine, request_: BuildRequest) -> None:
    first = engine.build(request_)
    (request_.root / "file").write_text("content\n")
    assert engine.build(request_) == first
    assert first.manifest is not None


@pytest.mark.engine
def test_the_engine_and_the_archive_agree_on_the_digest(
    engine: DockerEngine, request_: BuildRequest, tmp_path: Path
) -> None:
    digests = engine.build(request_)
    image = engine.image(request_.tag)
    assert image is not None
    assert image.id == digests.manifest
    assert image.references == (f"{request_.tag.rpartition(':')[0]}@{digests.manifest}",)
    with closing(DockerEngine(cache=tmp_path / "forgotten")) as other:
        assert other.digests(image) == digests


@pytest.mark.engine
def test_images_are_found_by_label(engine: DockerEngine, request_: BuildRequest) -> None:
    image = build_image(engine, request_)
    name = request_.tag.split("/")[-1].split(":")[0]
    assert [found.id for found in engine.images(f"reprise.test={name}")] == [image.id]
    assert engine.images(f"reprise.test={name}-not") == []


@pytest.mark.engine
def test_a_pushed_image_is_pulled_unchanged(engine: DockerEngine, request_: BuildRequest, registry: str) -> None:
    image = build_image(engine, request_)
    reference = engine.push(image, f"{registry}/team/cpu")
    assert reference == f"{registry}/team/cpu@{image.id}"
    assert engine.in_registry(reference)
    subprocess.run(["docker", "image", "rm", "--force", image.id], capture_output=True, check=True)
    engine.pull(reference)
    pulled = engine.image(reference)
    assert pulled is not None
    assert (pulled.id, pulled.layers) == (image.id, image.layers)
    subprocess.run(["docker", "image", "rm", "--force", image.id], capture_output=True, check=True)


@pytest.mark.engine
def test_a_missing_image_is_distinguished_from_a_missing_registry(engine: DockerEngine, registry: str) -> None:
    wrong = f"{registry}/team/cpu@sha256:{'0' * 64}"
    assert not engine.in_registry(wrong)
    with pytest.raises(ImageMissingError, match="is not in its registry"):
        engine.pull(wrong)
    for call in (engine.in_registry, engine.pull):
        with pytest.raises(EngineError, match="connection refused") as caught:
            call(f"127.0.0.1:1/team/cpu@sha256:{'0' * 64}")
        assert caught.value.hint == "check that this machine can reach 127.0.0.1:1"


@pytest.mark.engine
def test_a_failed_push_leaves_no_tag(engine: DockerEngine, request_: BuildRequest) -> None:
    image = build_image(engine, request_)
    with pytest.raises(EngineError, match=r"could not be pushed to 127\.0\.0\.1:1/team/cpu") as caught:
        engine.push(image, "127.0.0.1:1/team/cpu")
    assert caught.value.hint == "check that this machine can reach 127.0.0.1:1"
    after = engine.image(request_.tag)
    assert after is not None
    assert after.tags == image.tags


@pytest.mark.engine
def test_a_failed_build_is_one_sentence(engine: DockerEngine, request_: BuildRequest) -> None:
    broken = BuildRequest(
        recipe="FROM scratch\nCOPY absent /\n",
        root=request_.root,
        stage="",
        tag=request_.tag,
        arguments={},
        secrets={},
        contexts={},
        epoch=0,
    )
    with pytest.raises(ImageBuildError, match="failed: see the output above"):
        engine.build(broken)


def test_credentials_of_a_registry_are_those_of_docker_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert registry_credentials("registry.example:5000") is None
    login = {"auth": base64.b64encode(b"ann:secret").decode()}
    auths = {"registry.example:5000": login, "other.example": {"identitytoken": "token"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    found = registry_credentials("registry.example:5000")
    assert found is not None
    assert (found.username, found.password) == ("ann", "secret")
    assert "secret" not in repr(found)
    assert (other := registry_credentials("other.example")) is not None
    assert other.identity_token == "token"  # noqa: S105 - test data
    assert registry_credentials("third.example") is None
