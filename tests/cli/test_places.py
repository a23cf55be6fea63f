"""Where things are: what `.env` adds to the environment on a host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trainer.cli.checkout import store_port
from trainer.cli.places import adopt_dotenv
from trainer.errors import UsageError
from trainer.host.dotenv import write_block
from trainer.host.image_claim import BAKED

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(BAKED.exists(), reason="is about hosts; this is an image")

BLOCK = {
    "REPRISE_STORE": "s3://reprise",
    "REPRISE_STORE_PORT": "8333",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
    "COMPOSE_PROFILES": "store",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that was set up, and an environment that says nothing of a store."""
    for name in ("REPRISE_STORE", "REPRISE_STORE_PORT", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "")  # so that it is as it was, afterwards
        monkeypatch.delenv(name)
    write_block(tmp_path / ".env", BLOCK)
    return tmp_path


def test_the_local_stores_address_follows_its_port(checkout: Path) -> None:
    """Whether it was edited in the block, or stands on a line of its own."""
    path = checkout / ".env"
    path.write_text(path.read_text().replace("REPRISE_STORE_PORT=8333", "REPRISE_STORE_PORT=9444"))
    adopt_dotenv(checkout)
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9444"


def test_another_stores_address_is_left_alone(checkout: Path) -> None:
    """The port is the local one's."""
    there = {"COMPOSE_PROFILES": "", "AWS_ENDPOINT_URL_S3": "https://s3.example"}
    write_block(checkout / ".env", BLOCK | there)
    adopt_dotenv(checkout)
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "https://s3.example"


def test_the_port_is_what_the_environment_says_then_a_line_of_ones_own_then_the_block(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As compose reads them; what is no port is said."""
    path = checkout / ".env"
    assert store_port({}, dotenv=path) == 8333
    assert store_port({"REPRISE_STORE_PORT": "8334"}, dotenv=path) == 8334
    path.write_text(path.read_text() + "REPRISE_STORE_PORT=8335\n")
    assert store_port({"REPRISE_STORE_PORT": "8334"}, dotenv=path) == 8335
    monkeypatch.setenv("REPRISE_STORE_PORT", "8336")
    assert store_port({}, dotenv=path) == 8336
    monkeypatch.setenv("REPRISE_STORE_PORT", "many")
    with pytest.raises(UsageError, match="expected a port number"):
        store_port({}, dotenv=path)
