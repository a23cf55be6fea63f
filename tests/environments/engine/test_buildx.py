"""The command line of a build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainer.environments.engine import BuildRequest
from trainer.environments.engine.buildx import command

REQUEST = BuildRequest(
    recipe="FROM scratch",
    root=Path("/checkout"),
    stage="environment",
    tag="localhost/reprise/cpu:0123",
    arguments={"BASE": "b", "EXTRAS": "cpu"},
    secrets={"ca": Path("/ca.pem")},
    contexts={"wheels": "/wheels"},
    epoch=1767225600,
)


def test_the_build_options_are_reproducible() -> None:
    words = command(REQUEST, archive=Path("/image.tar"))
    assert "--provenance=false" in words
    assert "SOURCE_DATE_EPOCH=1767225600" in words
    assert any(
        word.startswith("--output=type=oci,dest=/image.tar") and "rewrite-timestamp=true" in word for word in words
    )


def test_a_path_with_a_comma_or_a_quote_is_one_field() -> None:
    words = command(replace(REQUEST, secrets={"ca": Path('/a,"b.pem')}), archive=Path("/a,1/image.tar"))
    assert 'id=ca,"src=/a,""b.pem"' in words
    assert any('"dest=/a,1/image.tar"' in word for word in words)


def test_secrets_are_named_by_file() -> None:
    assert "id=ca,src=/ca.pem" in command(REQUEST, archive=Path("/image.tar"))


def test_an_engine_without_manifests_builds_directly() -> None:
    words = command(REQUEST, archive=None)
    assert words[-4:-1] == ["--load", "--tag", "localhost/reprise/cpu:0123"]
