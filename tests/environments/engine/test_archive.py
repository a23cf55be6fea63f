"""The digests in an image archive."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import EngineError
from trainer.environments.engine.archive import config_in_stream, digests_of_archive

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = f"sha256:{'c' * 64}"
MANIFEST = json.dumps(
    {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"digest": CONFIG}}
).encode()
DIGEST = digest_of_bytes(MANIFEST)


def write_archive(path: Path, *, images: int = 1) -> Path:
    files = {
        "index.json": json.dumps({"manifests": [{"digest": DIGEST}] * images}).encode(),
        "blobs/sha256/00": b"a layer",
        f"blobs/{DIGEST.replace(':', '/')}": MANIFEST,
    }
    with tarfile.open(path, "w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def test_an_archive_has_the_digests_of_manifest_and_config(tmp_path: Path) -> None:
    found = digests_of_archive(write_archive(tmp_path / "image.tar"))
    assert (found.manifest, found.config) == (DIGEST, CONFIG)


def test_several_images_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds 2 images"):
        digests_of_archive(write_archive(tmp_path / "image.tar", images=2))


def test_a_config_is_found_while_streaming_a_saved_image(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "image.tar")
    assert config_in_stream(io.BytesIO(path.read_bytes()), DIGEST) == CONFIG
    assert config_in_stream(io.BytesIO(path.read_bytes()), f"sha256:{'0' * 64}") is None
