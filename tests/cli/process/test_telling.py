"""What a run's end is told as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.cli.process.telling import as_on_host

if TYPE_CHECKING:
    import pytest


def test_the_stores_server_is_named_as_the_host_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container knows the local one by another name; where nobody says how the host does, the sentence stays as it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store:8333")
    monkeypatch.setenv("REPRISE_STORE_ON_HOST", "http://127.0.0.1:8433")
    said = "store s3://reprise at http://store:8333 does not answer"
    assert as_on_host(said) == "store s3://reprise at http://127.0.0.1:8433 does not answer"
    monkeypatch.delenv("REPRISE_STORE_ON_HOST")
    assert as_on_host(said) == said
