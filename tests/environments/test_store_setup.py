"""The store of a checkout: a folder, a bucket, its own local store, or another checkout's local store."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer.base.errors import (
    DiskFullError,
    NotWritableError,
    PortTakenError,
    RepriseError,
    StoreMissingError,
    UsageError,
)
from trainer.environments import setup, store_setup
from trainer.environments.engine import LocalStore

if TYPE_CHECKING:
    from pathlib import Path


def test_the_local_stores_key_is_created_once(tmp_path: Path) -> None:
    del tmp_path
    first = store_setup.store_values(store_setup.Choice(), {}, port=8333)
    second = store_setup.store_values(store_setup.Choice(), first, port=8333)
    assert first == second
    assert len(first["REPRISE_STORE_SECRET"]) >= 40
    assert store_setup.store_values(store_setup.Choice(), {}, port=8333) != first


def test_host_and_containers_use_different_addresses_of_the_local_store() -> None:
    values = store_setup.store_values(store_setup.Choice(), {}, port=9444)
    assert values["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9444"
    assert values["REPRISE_STORE_ENDPOINT"] == "http://store:8333"
    assert values["COMPOSE_PROFILES"] == "store"


def test_another_store_disables_the_local_store() -> None:
    chosen = store_setup.Choice(store="s3://lab/reprise", endpoint="https://s3.example")
    values = store_setup.store_values(chosen, {}, port=8333)
    assert values["COMPOSE_PROFILES"] == ""
    assert "REPRISE_STORE_SECRET" not in values
    assert store_setup.store_values(store_setup.Choice(), values, port=8333) == values


@pytest.mark.parametrize("address", ["/mnt/nfs/reprise", "file:///mnt/nfs/reprise", "/mnt/nfs/./other/../reprise/"])
def test_a_folder_as_the_store_disables_the_local_store(address: str) -> None:
    values = store_setup.store_values(store_setup.Choice(store=address), {}, port=8333)
    expected = dict.fromkeys(("REPRISE_STORE", "REPRISE_STORE_FOLDER"), "/mnt/nfs/reprise") | {"COMPOSE_PROFILES": ""}
    assert values == expected
    assert store_setup.store_values(store_setup.Choice(), values, port=8333) == values


def test_relative_and_home_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for address in ("store", "./store", "~/store"):
        values = store_setup.store_values(store_setup.Choice(store=address), {}, port=8333)
        assert values["REPRISE_STORE"] == str(tmp_path / "store")


@pytest.mark.parametrize(
    ("address", "endpoint", "message"),
    [
        ("ftp://host/x", None, "unknown kind 'ftp'"),
        ("file://host/x", None, "names the host"),
        ("/data", "https://s3.example", "a folder has no endpoint"),
        ("s3://team", "http://localhost:9000", "loopback"),
        ("s3://team", "s3.lab:9000", "expected http://HOST or https://HOST"),
        ("s3://team?profile=lab", None, "expected s3://BUCKET"),
    ],
)
def test_a_store_that_containers_cannot_reach_is_rejected(address: str, endpoint: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        store_setup.store_values(store_setup.Choice(store=address, endpoint=endpoint), {}, port=8333)


ME = store_setup.Owner(uid=os.getuid() or 1000, gid=os.getgid() or 1000)


@pytest.fixture
def world_writable_folder(tmp_path: Path) -> Path:
    path = tmp_path / "with a blank"
    path.mkdir()
    path.chmod(0o777)
    return path


def test_a_folder_that_containers_can_write_is_accepted_and_left_empty(
    world_writable_folder: Path, tmp_path: Path
) -> None:
    store_setup.require_folder(world_writable_folder, user=ME, root=tmp_path / "checkout")
    assert list(world_writable_folder.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that its containers' user cannot write")
@pytest.mark.parametrize("inner", ["", "objects/sha256"])
def test_a_folder_that_containers_cannot_write_is_named_with_their_user(
    world_writable_folder: Path, tmp_path: Path, inner: str
) -> None:
    (world_writable_folder / inner).mkdir(parents=True, exist_ok=True)
    (world_writable_folder / inner).chmod(0o755)
    with pytest.raises(NotWritableError, match="uid 1000, gid 1000") as caught:
        store_setup.require_folder(world_writable_folder, user=setup.owner(0, 0), root=tmp_path / "checkout")
    assert str(caught.value.hint).startswith("chown -R 1000:1000")


@pytest.mark.parametrize(
    ("number", "error", "hint"),
    [
        (errno.EROFS, NotWritableError, "mount it writable"),
        (errno.ENOSPC, DiskFullError, "free space"),
        (errno.EACCES, NotWritableError, "chown"),
    ],
)
def test_a_read_only_or_full_disk_is_not_reported_as_an_ownership_problem(
    world_writable_folder: Path, number: int, error: type[RepriseError], hint: str
) -> None:
    found = store_setup.folder_error(
        world_writable_folder, user=ME, output=f"mktemp: failed to create file: {os.strerror(number)}\n"
    )
    assert (type(found), str(found.hint).startswith(hint)) == (error, True)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("absent", StoreMissingError, "does not exist"),
        ("file", StoreMissingError, "is not a folder"),
        ("a:b", UsageError, "colon"),
        ("checkout/store", UsageError, "inside this checkout"),
        ("/project/store", UsageError, "hide a folder of the image"),
        ("/home", UsageError, "hide a folder of the image"),
    ],
)
def test_a_folder_that_cannot_be_a_store_is_named(
    tmp_path: Path, name: str, error: type[RepriseError], message: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(error, match=message):
        store_setup.require_folder(tmp_path / name, user=ME, root=tmp_path / "checkout")


RUNNING = LocalStore(project="reprise-1", port=8333, network="net", volume="reprise-1_store", key="k", secret="s")  # noqa: S106


def test_a_second_checkout_uses_the_local_store_of_the_first() -> None:
    engine = MemoryEngine(stores=[RUNNING])
    joined = store_setup.store_to_join(store_setup.Choice(), {}, port=8333, project="reprise-2", engine=engine)
    values = store_setup.store_values(store_setup.Choice(), {}, port=8333, joined=joined)
    assert (values["REPRISE_STORE_KEY"], values["REPRISE_STORE_SECRET"]) == ("k", "s")
    assert (values["REPRISE_STORE_NETWORK"], values["COMPOSE_PROFILES"]) == ("net", "")
    assert values["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:8333"
    later = store_setup.store_to_join(store_setup.Choice(), values, port=8333, project="reprise-2", engine=engine)
    assert store_setup.store_values(store_setup.Choice(), values, port=8333, joined=later) == values


def test_without_the_first_checkouts_server_the_second_serves_the_same_volume_with_the_same_key() -> None:
    joined = store_setup.store_values(store_setup.Choice(), {}, port=8333, joined=RUNNING)
    values = store_setup.store_values(store_setup.Choice(), joined, port=8333)
    assert (values["COMPOSE_PROFILES"], values["REPRISE_STORE_VOLUME"]) == ("store", RUNNING.volume)
    assert values["REPRISE_STORE_SHARED"] == "true"  # `down --volumes` must not remove the shared data
    assert values["REPRISE_STORE_SECRET"] == RUNNING.secret
    assert "REPRISE_STORE_JOINED" not in values


def test_a_checkout_with_its_own_local_store_must_choose() -> None:
    engine = MemoryEngine(stores=[RUNNING], volumes={"reprise-2_store"})
    with pytest.raises(PortTakenError, match="has its own") as caught:
        store_setup.store_to_join(store_setup.Choice(), {}, port=8333, project="reprise-2", engine=engine)
    assert "scripts/setup --endpoint http://127.0.0.1:8333" in str(caught.value.hint)
    choice = store_setup.Choice(endpoint="http://127.0.0.1:8333")
    assert store_setup.store_to_join(choice, {}, port=8333, project="reprise-2", engine=engine) == RUNNING


def test_a_server_on_this_checkouts_volume_is_joined_whatever_its_port() -> None:
    engine = MemoryEngine(stores=[replace(RUNNING, project="reprise-2")], volumes={RUNNING.volume})
    joined = store_setup.store_to_join(store_setup.Choice(), {}, port=8343, project="reprise-1", engine=engine)
    assert joined is not None
    assert (joined.port, joined.volume) == (8333, RUNNING.volume)


def test_a_local_store_on_another_port_is_not_joined_unless_it_is_named() -> None:
    engine = MemoryEngine(stores=[RUNNING])
    assert store_setup.store_to_join(store_setup.Choice(), {}, port=8343, project="reprise-2", engine=engine) is None
    assert store_setup.store_to_join(store_setup.Choice(), {}, port=8333, project="reprise-1", engine=engine) is None
    named = store_setup.Choice(store="s3://reprise", endpoint="http://127.0.0.1:8333")
    assert store_setup.store_to_join(named, {}, port=8343, project="reprise-2", engine=engine) == RUNNING
    with pytest.raises(UsageError, match="no local store of Reprise runs on port 8444"):
        store_setup.store_to_join(
            store_setup.Choice(endpoint="http://localhost:8444"), {}, port=8343, project="reprise-2", engine=engine
        )


def test_a_port_in_use_is_an_error_with_a_hint() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            store_setup.check_port(port, command="scripts/train --exp digits")
        given, _, again = str(caught.value.hint).removeprefix("REPRISE_STORE_PORT=").partition(" ")
        assert again == "scripts/train --exp digits"
        assert given.isdecimal()
