"""The program of a pod's init container, tested with the functions that upload a source and use it for a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.sites.pods import Pod
from trainer.base.errors import DigestMismatchError, SourceError
from trainer.runs.publish import source_of
from trainer.runs.submitted_source import DOCUMENT, SUBMITTED, take_submitted_source, upload_source
from trainer.source.capture import ARCHIVE, capture
from trainer.stores import open_store
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.source.capture import SourceBundle

DIGEST = f"sha256:{'3' * 64}"


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path / "pod" / "project")


@pytest.fixture
def bundle(tmp_path: Path) -> SourceBundle:
    root = tmp_path / "checkout"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "ü $(x).py").write_text("x = 1\n")
    (root / "do").write_text("#!/bin/sh\n")
    (root / "do").chmod(0o755)
    return capture(root)


def test_a_pod_gets_the_source_that_was_submitted(tmp_path: Path, pod: Pod, bundle: SourceBundle) -> None:
    store = tmp_path / "team store"
    store.mkdir()
    digest = upload_source(bundle, open_store(str(store)))
    done = pod.fetch(store.as_uri(), digest)
    assert (done.returncode, done.stderr) == (0, "")
    assert (pod.project / "deep" / "ü $(x).py").read_text() == "x = 1\n"
    assert os.access(pod.project / "do", os.X_OK)
    taken = take_submitted_source(pod.run, digest=digest)
    assert taken == bundle
    assert (pod.run / "source" / "do").read_text() == "#!/bin/sh\n"
    published = source_of(pod.run)
    assert published is not None
    assert open_store(str(store)).holds(object_key(published.sha256), size=published.size, sha256=published.sha256)


@pytest.mark.s3
def test_a_pod_gets_the_source_from_a_bucket(pod: Pod, bundle: SourceBundle, s3_address: str) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
    digest = upload_source(bundle, open_store(s3_address))
    done = pod.fetch(f"{s3_address}/?endpoint={endpoint}", digest, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    assert take_submitted_source(pod.run, digest=digest) == bundle


def test_a_source_that_was_altered_or_is_missing_is_an_error_of_one_line(
    tmp_path: Path, pod: Pod, bundle: SourceBundle
) -> None:
    digest = upload_source(bundle, open_store(str(tmp_path)))
    path = tmp_path / object_key(digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha257:"))
    done = pod.fetch(str(tmp_path), digest)
    assert done.returncode == 1
    assert done.stderr.startswith(f"the run's source cannot be fetched from {tmp_path}: ValueError: objects/sha256/")
    assert done.stderr.count("\n") == 1
    path.unlink()
    assert "FileNotFoundError" in Pod(tmp_path / "other").fetch(str(tmp_path), digest).stderr


def test_a_source_that_is_not_the_submitted_source_is_not_taken(tmp_path: Path, pod: Pod, bundle: SourceBundle) -> None:
    digest = upload_source(bundle, open_store(str(tmp_path)))
    pod.fetch(str(tmp_path), digest)
    with pytest.raises(DigestMismatchError, match="REPRISE_SOURCE is"):
        take_submitted_source(pod.run, digest=DIGEST)
    (tmp_path / "checkout" / "do").write_text("other")
    other = upload_source(capture(tmp_path / "checkout"), open_store(str(tmp_path)))
    elsewhere = Pod(tmp_path / "other")
    elsewhere.fetch(str(tmp_path), other)
    submitted = pod.project / "runs" / SUBMITTED
    (submitted / ARCHIVE).write_bytes((elsewhere.project / "runs" / SUBMITTED / ARCHIVE).read_bytes())
    with pytest.raises(DigestMismatchError, match="the record names"):
        take_submitted_source(pod.run, digest=digest)
    assert not (pod.run / ARCHIVE).exists()
    (submitted / DOCUMENT).unlink()
    with pytest.raises(SourceError, match="does not exist"):
        take_submitted_source(pod.run, digest=digest)


def test_without_the_variable_nothing_is_taken(tmp_path: Path) -> None:
    assert take_submitted_source(tmp_path / "run", digest=None) is None
