"""Folders and addresses: the values of `.env` complete the environment on a host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import StoreDeniedError, StoreMissingError, UsageError
from trainer.cli import configuration
from trainer.cli.checkout import store_port
from trainer.cli.configuration import adopt_dotenv, export_store_variables, require_mounted, store_at, two_stores
from trainer.environments.dotenv import write_block
from trainer.runs.image_file import IMAGE_FILE
from trainer.stores.s3 import S3Store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(IMAGE_FILE.exists(), reason="a test of hosts; this process is in a container")

BLOCK = {
    "REPRISE_STORE": "s3://reprise",
    "REPRISE_STORE_PORT": "8333",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
    "COMPOSE_PROFILES": "store",
}

NAMES = (
    *("REPRISE_STORE", "REPRISE_STORE_PORT", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "AWS_PROFILE"),
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a configured checkout; the environment names no store."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores the variable
        monkeypatch.delenv(name)
    monkeypatch.setattr(configuration, "CHECKOUT", tmp_path)
    write_block(tmp_path / ".env", BLOCK)
    return tmp_path


def test_the_local_stores_address_follows_its_port(checkout: Path) -> None:
    path = checkout / ".env"
    path.write_text(path.read_text().replace("REPRISE_STORE_PORT=8333", "REPRISE_STORE_PORT=9444"))
    assert store_at("s3://reprise").label == "s3://reprise at http://127.0.0.1:9444"


def test_another_stores_address_is_left_alone(checkout: Path) -> None:
    there = {"COMPOSE_PROFILES": "", "AWS_ENDPOINT_URL_S3": "https://s3.example"}
    write_block(checkout / ".env", BLOCK | there)
    assert store_at("s3://reprise").label == "s3://reprise at https://s3.example"


def test_the_last_of_two_lines_in_dotenv_counts_as_in_compose(checkout: Path) -> None:
    path = checkout / ".env"
    path.write_text("REPRISE_STORE=/mnt/before\n" + path.read_text())
    adopt_dotenv(checkout)
    assert os.environ.pop("REPRISE_STORE") == "s3://reprise"
    path.write_text(path.read_text() + 'REPRISE_STORE="/mnt/after"  # the share\n')
    adopt_dotenv(checkout)
    assert os.environ["REPRISE_STORE"] == "/mnt/after"


def test_a_key_in_the_shell_is_not_used_for_the_local_store(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_block(checkout / ".env", BLOCK | {"REPRISE_STORE_KEY": "mine", "REPRISE_STORE_SECRET": "x"})
    for name, value in {"ENDPOINT_URL_S3": "https://s3.lab", "ACCESS_KEY_ID": "work", "SESSION_TOKEN": "t"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    adopt_dotenv(checkout)
    local, other = store_at("s3://reprise"), store_at("s3://team")
    assert isinstance(local, S3Store)
    assert isinstance(other, S3Store)
    assert (local.label, local.access.key) == ("s3://reprise at http://127.0.0.1:8333", "mine")
    assert (other.label, other.access.key) == ("s3://team at https://s3.lab", None)


def test_the_managed_blocks_server_and_key_are_not_used_for_another_store(checkout: Path) -> None:
    write_block(checkout / ".env", BLOCK | {"REPRISE_STORE_KEY": "mine", "REPRISE_STORE_SECRET": "x"})
    adopt_dotenv(checkout)
    assert not [name for name in os.environ if name.startswith("AWS_") and name in NAMES]
    path = checkout / ".env"
    path.write_text(path.read_text() + "AWS_ACCESS_KEY_ID=team\nAWS_SECRET_ACCESS_KEY=z\n")
    adopt_dotenv(checkout)
    assert os.environ["AWS_ACCESS_KEY_ID"] == "team"
    assert "s3://team at https://s3" in store_at("s3://team").label


def test_the_port_comes_from_the_environment_then_the_users_line_then_the_block(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["--exp", "my idea.py"], "scripts/train --exp 'my idea.py'"),
        (["train", "--exp", "digits"], "scripts/train --exp digits"),
        (["runs", "ls"], "scripts/reprise runs ls"),
    ],
)
def test_an_unmounted_folder_is_an_error_with_the_command_that_mounts_it(typed: list[str], command: str) -> None:
    with pytest.raises(StoreMissingError, match="store folder /nowhere/here is not mounted") as error:
        require_mounted("/nowhere/here", typed=typed)
    assert error.value.hint is not None
    assert f"type on the host: REPRISE_STORE=/nowhere/here {command}; or" in error.value.hint


def test_a_folder_in_the_environment_is_mounted_and_no_local_store_is_started(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("REPRISE_STORE", "REPRISE_STORE_FOLDER", "COMPOSE_PROFILES", "REPRISE_STORE_ENDPOINT")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    export_store_variables(checkout / ".env")
    assert not set(names) & os.environ.keys()
    monkeypatch.setenv("REPRISE_STORE", "file:///mnt/nfs/reprise")
    export_store_variables(checkout / ".env")
    assert [os.environ.get(name) for name in names] == ["/mnt/nfs/reprise", "/mnt/nfs/reprise", "", None]


def test_a_bucket_in_the_environment_keeps_its_server_in_containers(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_in = ("REPRISE_STORE_FOLDER", "COMPOSE_PROFILES", "REPRISE_STORE_ENDPOINT", "REPRISE_STORE_KEY")
    for name in (*handed_in, "REPRISE_STORE_SECRET", "REPRISE_STORE_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("REPRISE_STORE", "s3://team")
    adopt_dotenv(checkout)
    export_store_variables(checkout / ".env")
    assert os.environ.pop("REPRISE_STORE_ENDPOINT") == "https://s3.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.lab")
    export_store_variables(checkout / ".env")
    assert [os.environ[name] for name in handed_in] == ["", "", "https://s3.lab", ""]


def test_the_configured_store_uses_the_key_of_dotenv_and_another_store_the_shells(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_block(checkout / ".env", BLOCK | {"REPRISE_STORE_KEY": "mine", "REPRISE_STORE_SECRET": "x"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(StoreDeniedError, match=r"s3://team at http://127\.0\.0\.1:9000"):
        store_at("s3://team")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setenv("REPRISE_STORE", "s3://reprise")
    source, target = two_stores(None, "s3://team", command="reprise data push")
    assert (source.label, target.label) == (
        "s3://reprise at http://127.0.0.1:8333",
        "s3://team at http://127.0.0.1:9000",
    )
    assert isinstance(source, S3Store)
    assert source.access.key == "mine"
    back = two_stores("s3://reprise?endpoint=http://127.0.0.1:9000", "s3://reprise", command="reprise data push")
    assert [store.label[-4:] for store in back] == ["9000", "8333"]


def test_containers_name_the_local_store_as_the_host_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_STORE_ON_HOST", "http://127.0.0.1:8333")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store:8333")
    assert store_at("s3://reprise").label == "s3://reprise at http://127.0.0.1:8333"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.lab")
    assert store_at("s3://team").label == "s3://team at https://s3.lab"
