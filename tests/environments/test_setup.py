"""The values of the managed block."""

from __future__ import annotations

import errno
import os
import platform
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.checkouts import BASE, LOCK, MACHINE, write_checkout
from tests.environments.engine.memory import FACTS, MemoryEngine
from trainer.base.errors import (
    DiskFullError,
    EnvironmentNameError,
    ImageMissingError,
    NotWritableError,
    PortTakenError,
    RepriseError,
    StoreMissingError,
    UsageError,
)
from trainer.environments import setup
from trainer.environments.build import build, plan
from trainer.environments.engine import LocalStore
from trainer.environments.pin import pin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("uid", "inside"), [(0, 1000), (1000, 1000), (4321, 4321)])
def test_containers_run_as_the_user_and_never_as_root(uid: int, inside: int) -> None:
    assert setup.owner(uid, uid).uid == inside


def test_the_local_stores_key_is_created_once(tmp_path: Path) -> None:
    del tmp_path
    first = setup.store_values(setup.Choice(), {}, port=8333)
    second = setup.store_values(setup.Choice(), first, port=8333)
    assert first == second
    assert len(first["REPRISE_STORE_SECRET"]) >= 40
    assert setup.store_values(setup.Choice(), {}, port=8333) != first


def test_host_and_containers_use_different_addresses_of_the_local_store() -> None:
    values = setup.store_values(setup.Choice(), {}, port=9444)
    assert values["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9444"
    assert values["REPRISE_STORE_ENDPOINT"] == "http://store:8333"
    assert values["COMPOSE_PROFILES"] == "store"


def test_another_store_disables_the_local_store() -> None:
    chosen = setup.Choice(store="s3://lab/reprise", endpoint="https://s3.example")
    values = setup.store_values(chosen, {}, port=8333)
    assert values["COMPOSE_PROFILES"] == ""
    assert "REPRISE_STORE_SECRET" not in values
    assert setup.store_values(setup.Choice(), values, port=8333) == values


@pytest.mark.parametrize("address", ["/mnt/nfs/reprise", "file:///mnt/nfs/reprise", "/mnt/nfs/./other/../reprise/"])
def test_a_folder_as_the_store_disables_the_local_store(address: str) -> None:
    values = setup.store_values(setup.Choice(store=address), {}, port=8333)
    expected = dict.fromkeys(("REPRISE_STORE", "REPRISE_STORE_FOLDER"), "/mnt/nfs/reprise") | {"COMPOSE_PROFILES": ""}
    assert values == expected
    assert setup.store_values(setup.Choice(), values, port=8333) == values


def test_relative_and_home_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for address in ("store", "./store", "~/store"):
        values = setup.store_values(setup.Choice(store=address), {}, port=8333)
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
        setup.store_values(setup.Choice(store=address, endpoint=endpoint), {}, port=8333)


ME = setup.Owner(uid=os.getuid() or 1000, gid=os.getgid() or 1000)


@pytest.fixture
def world_writable_folder(tmp_path: Path) -> Path:
    path = tmp_path / "with a blank"
    path.mkdir()
    path.chmod(0o777)
    return path


def test_a_folder_that_containers_can_write_is_accepted_and_left_empty(
    world_writable_folder: Path, tmp_path: Path
) -> None:
    setup.require_folder(world_writable_folder, user=ME, root=tmp_path / "checkout")
    assert list(world_writable_folder.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that its containers' user cannot write")
@pytest.mark.parametrize("inner", ["", "objects/sha256"])
def test_a_folder_that_containers_cannot_write_is_named_with_their_user(
    world_writable_folder: Path, tmp_path: Path, inner: str
) -> None:
    (world_writable_folder / inner).mkdir(parents=True, exist_ok=True)
    (world_writable_folder / inner).chmod(0o755)
    with pytest.raises(NotWritableError, match="uid 1000, gid 1000") as caught:
        setup.require_folder(world_writable_folder, user=setup.owner(0, 0), root=tmp_path / "checkout")
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
    found = setup.folder_error(
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
        setup.require_folder(tmp_path / name, user=ME, root=tmp_path / "checkout")


RUNNING = LocalStore(project="reprise-1", port=8333, network="net", volume="reprise-1_store", key="k", secret="s")  # noqa: S106


def test_a_second_checkout_uses_the_local_store_of_the_first() -> None:
    engine = MemoryEngine(stores=[RUNNING])
    joined = setup.store_to_join(setup.Choice(), {}, port=8333, project="reprise-2", engine=engine)
    values = setup.store_values(setup.Choice(), {}, port=8333, joined=joined)
    assert (values["REPRISE_STORE_KEY"], values["REPRISE_STORE_SECRET"]) == ("k", "s")
    assert (values["REPRISE_STORE_NETWORK"], values["COMPOSE_PROFILES"]) == ("net", "")
    assert values["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:8333"
    later = setup.store_to_join(setup.Choice(), values, port=8333, project="reprise-2", engine=engine)
    assert setup.store_values(setup.Choice(), values, port=8333, joined=later) == values


def test_without_the_first_checkouts_server_the_second_serves_the_same_volume_with_the_same_key() -> None:
    joined = setup.store_values(setup.Choice(), {}, port=8333, joined=RUNNING)
    values = setup.store_values(setup.Choice(), joined, port=8333)
    assert (values["COMPOSE_PROFILES"], values["REPRISE_STORE_VOLUME"]) == ("store", RUNNING.volume)
    assert values["REPRISE_STORE_SHARED"] == "true"  # `down --volumes` in one checkout leaves the other one its data
    assert values["REPRISE_STORE_SECRET"] == RUNNING.secret
    assert "REPRISE_STORE_JOINED" not in values


def test_a_checkout_with_its_own_local_store_must_choose() -> None:
    engine = MemoryEngine(stores=[RUNNING], volumes={"reprise-2_store"})
    with pytest.raises(PortTakenError, match="has its own") as caught:
        setup.store_to_join(setup.Choice(), {}, port=8333, project="reprise-2", engine=engine)
    assert "scripts/setup --endpoint http://127.0.0.1:8333" in str(caught.value.hint)
    choice = setup.Choice(endpoint="http://127.0.0.1:8333")
    assert setup.store_to_join(choice, {}, port=8333, project="reprise-2", engine=engine) == RUNNING


def test_a_server_on_this_checkouts_volume_is_joined_whatever_its_port() -> None:
    engine = MemoryEngine(stores=[replace(RUNNING, project="reprise-2")], volumes={RUNNING.volume})
    joined = setup.store_to_join(setup.Choice(), {}, port=8343, project="reprise-1", engine=engine)
    assert joined is not None
    assert (joined.port, joined.volume) == (8333, RUNNING.volume)


def test_a_local_store_on_another_port_is_not_joined_unless_it_is_named() -> None:
    engine = MemoryEngine(stores=[RUNNING])
    assert setup.store_to_join(setup.Choice(), {}, port=8343, project="reprise-2", engine=engine) is None
    assert setup.store_to_join(setup.Choice(), {}, port=8333, project="reprise-1", engine=engine) is None
    named = setup.Choice(store="s3://reprise", endpoint="http://127.0.0.1:8333")
    assert setup.store_to_join(named, {}, port=8343, project="reprise-2", engine=engine) == RUNNING
    with pytest.raises(UsageError, match="no local store of Reprise runs on port 8444"):
        setup.store_to_join(
            setup.Choice(endpoint="http://localhost:8444"), {}, port=8343, project="reprise-2", engine=engine
        )


def test_the_gpu_overlay_is_used_if_the_runtime_is_installed(tmp_path: Path) -> None:
    who = setup.owner(1000, 1000)
    files = [
        setup.machine_values(tmp_path, user=who, nvidia=nvidia, ca=None)["COMPOSE_FILE"] for nvidia in (True, False)
    ]
    assert files == ["compose.yaml:compose.gpu.yaml", "compose.yaml"]


def test_the_environment_follows_option_then_dotenv_then_hardware() -> None:
    assert setup.environment_name(setup.Choice(), {}, nvidia=True) == "cuda"
    assert setup.environment_name(setup.Choice(), {"REPRISE_ENVIRONMENT": "cpu"}, nvidia=True) == "cpu"
    assert (
        setup.environment_name(setup.Choice(environment="mine"), {"REPRISE_ENVIRONMENT": "cpu"}, nvidia=True) == "mine"
    )


def test_an_environment_of_dotenv_that_the_checkout_lacks_is_an_error(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    setup.require_environment({"REPRISE_ENVIRONMENT": "cpu"}, root=root)
    setup.require_environment({}, root=root)
    with pytest.raises(EnvironmentNameError, match=r"\.env has environment 'vision'") as caught:
        setup.require_environment({"REPRISE_ENVIRONMENT": "vision"}, root=root)
    assert str(caught.value.hint).startswith("scripts/setup --environment cpu")


def test_two_checkouts_are_two_compose_projects(tmp_path: Path) -> None:
    who = setup.owner(1000, 1000)
    names = {
        setup.machine_values(tmp_path / place / "reprise", user=who, nvidia=False, ca=None)["COMPOSE_PROJECT_NAME"]
        for place in ("a", "b")
    }
    assert len(names) == 2


def test_containers_get_the_machines_name(tmp_path: Path) -> None:
    values = setup.machine_values(tmp_path, user=setup.owner(1000, 1000), nvidia=False, ca=None)
    assert values["REPRISE_HOST"] == platform.node()


def test_the_repository_of_a_worktree_is_mounted_if_possible(tmp_path: Path) -> None:
    tree, home = tmp_path / "tree", tmp_path / "main" / ".git"
    (home / "worktrees" / "tree").mkdir(parents=True)
    (home / "worktrees" / "tree" / "commondir").write_text("../..\n")
    tree.mkdir()

    def told() -> str:
        return setup.machine_values(tree, user=ME, nvidia=False, ca=None)["REPRISE_GIT_FOLDER"]

    assert told() == ""
    (tree / ".git").write_text(f"gitdir: {home}/worktrees/tree\n")
    assert told() == str(home)
    (tree / ".git").write_text("gitdir: /project/.git/worktrees/tree\n")
    assert told() == ""


def test_images_that_are_not_built_are_not_written_to_dotenv(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    assert setup.image_values("cpu", engine=engine, root=root) == {}
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    values = setup.image_values("cpu", engine=engine, root=root)
    assert values["REPRISE_IMAGE"] == built.reference
    assert values["REPRISE_BUILD_ID"] == built.plan.build_id
    assert values["REPRISE_IMAGE_LAYERS"] == ",".join(built.layers)


def test_the_devcontainer_gets_its_own_image(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    expected = plan("cpu", stage="development", base=BASE, root=root)
    built = build(expected, engine=engine, machine=MACHINE, root=root)
    assert setup.image_values("cpu", engine=engine, root=root) == {
        "REPRISE_DEV_IMAGE": built.reference,
        "REPRISE_DEV_IMAGE_CONFIG": built.config,
        "REPRISE_DEV_IMAGE_LAYERS": ",".join(built.layers),
    }


def test_an_earlier_store_image_is_used_until_this_locks_is_built(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    earlier = build(plan("store", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    (root / "uv.lock").write_text(LOCK.replace('name = "server"\nversion = "1"', 'name = "server"\nversion = "2"'))
    assert setup.image_values("cpu", engine=engine, root=root) == {"REPRISE_STORE_IMAGE": earlier.reference}
    now = build(plan("store", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    assert now.reference != earlier.reference
    assert setup.image_values("cpu", engine=engine, root=root) == {"REPRISE_STORE_IMAGE": now.reference}


def test_an_environment_for_one_run_uses_its_pinned_image(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    expected = plan("cpu", stage="environment", base=BASE, root=root)
    built = build(expected, engine=engine, machine=MACHINE, root=root)
    assert setup.single_run_values("cpu", engine=engine, root=root)["REPRISE_IMAGE"] == built.reference
    made = pin(built, "127.0.0.1:5000/team/cpu", engine=engine, root=root, push=True)
    assert setup.single_run_values("cpu", engine=engine, root=root)["REPRISE_IMAGE"] == made.reference
    with pytest.raises(ImageMissingError, match="is pinned to"):
        setup.single_run_values("cpu", engine=MemoryEngine(registries=engine.registries), root=root)


@pytest.mark.parametrize(("name", "gpu"), [("cpu", False), ("cuda", True)])
def test_an_environment_for_one_run_uses_its_own_compose_files(tmp_path: Path, name: str, *, gpu: bool) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine(said=replace(FACTS, runtimes=("nvidia",)))
    build(plan(name, stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    values = setup.single_run_values(name, engine=engine, root=root)
    assert (values["REPRISE_ENVIRONMENT"], values["COMPOSE_FILE"]) == (name, setup.compose_files(gpu=gpu))


def test_a_port_in_use_is_an_error_with_a_hint() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            setup.check_port(port, command="scripts/train --exp digits")
        given, _, again = str(caught.value.hint).removeprefix("REPRISE_STORE_PORT=").partition(" ")
        assert again == "scripts/train --exp digits"
        assert given.isdecimal()


def test_a_missing_image_is_an_error_with_the_command_that_restores_it(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    here = {"REPRISE_IMAGE": built.reference, "COMPOSE_PROFILES": ""}
    gone = here | {"REPRISE_IMAGE": built.reference[:-4] + "0000"}
    setup.require_images(here, engine=engine)
    setup.require_images(gone | {"REPRISE_PULL": "missing"}, engine=engine)
    local = {**here, "COMPOSE_PROFILES": "store", "COMPOSE_PROJECT_NAME": "mine"}
    setup.require_images(local, engine=replace(engine, running={"store"}))
    for values, message in ((gone, "is not in the engine"), ({}, "is not built yet"), (local, "REPRISE_STORE_IMAGE")):
        with pytest.raises(ImageMissingError, match=message) as caught:
            setup.require_images(values, engine=engine)
        assert str(caught.value.hint).startswith("scripts/setup --build")
