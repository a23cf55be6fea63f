"""The values of the managed block: values of the machine and of its images."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkouts import BASE, LOCK, MACHINE, write_checkout
from tests.environments.engine.memory import FACTS, MemoryEngine
from trainer.base.errors import (
    EnvironmentNameError,
    ImageMissingError,
    MachineError,
    NotWritableError,
    UsageError,
)
from trainer.environments import setup, store_setup
from trainer.environments.build import build, plan
from trainer.environments.pin import pin


@pytest.mark.parametrize(("uid", "inside"), [(0, 1000), (1000, 1000), (4321, 4321)])
def test_containers_run_as_the_user_and_never_as_root(uid: int, inside: int) -> None:
    assert setup.owner(uid, uid).uid == inside


def test_the_gpu_overlay_is_used_if_the_runtime_is_installed(tmp_path: Path) -> None:
    who = setup.owner(1000, 1000)
    files = [
        setup.machine_values(tmp_path, user=who, nvidia=nvidia, ca=None)["COMPOSE_FILE"] for nvidia in (True, False)
    ]
    assert files == ["compose.yaml:compose.gpu.yaml", "compose.yaml"]


def test_the_environment_follows_option_then_dotenv_then_hardware() -> None:
    assert setup.environment_name(store_setup.Choice(), {}, nvidia=True) == "cuda"
    assert setup.environment_name(store_setup.Choice(), {"REPRISE_ENVIRONMENT": "cpu"}, nvidia=True) == "cpu"
    assert (
        setup.environment_name(store_setup.Choice(environment="mine"), {"REPRISE_ENVIRONMENT": "cpu"}, nvidia=True)
        == "mine"
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

    def git_folder() -> str:
        return setup.machine_values(tree, user=setup.owner(1000, 1000), nvidia=False, ca=None)["REPRISE_GIT_FOLDER"]

    assert git_folder() == ""
    (tree / ".git").write_text(f"gitdir: {home}/worktrees/tree\n")
    assert git_folder() == str(home)
    (tree / ".git").write_text("gitdir: /project/.git/worktrees/tree\n")
    assert git_folder() == ""


def test_a_runs_folder_that_containers_cannot_use_is_an_error(tmp_path: Path) -> None:
    faults = {tmp_path / "none": "which is not a folder", Path("/usr/lib"): "would hide a folder of the image"}
    for folder, message in faults.items():
        with pytest.raises((MachineError, UsageError), match=message):
            setup.require_runs(folder, user=setup.owner(1000, 1000))
    tmp_path.chmod(0o755)
    with pytest.raises(NotWritableError, match="containers run as uid 4711, which cannot write") as caught:
        setup.require_runs(tmp_path, user=setup.owner(4711, 4711))
    assert caught.value.hint == f"chown 4711:4711 {tmp_path}"
    mine = setup.owner(tmp_path.stat().st_uid or 4711, tmp_path.stat().st_gid)
    tmp_path.chmod(0o2775)
    setup.require_runs(tmp_path, user=mine)  # the group may write


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
    written = pin(built, "127.0.0.1:5000/team/cpu", engine=engine, root=root, push=True)
    assert setup.single_run_values("cpu", engine=engine, root=root)["REPRISE_IMAGE"] == written.reference
    with pytest.raises(ImageMissingError, match="is pinned to"):
        setup.single_run_values("cpu", engine=MemoryEngine(registries=engine.registries), root=root)


@pytest.mark.parametrize(("name", "gpu"), [("cpu", False), ("cuda", True)])
def test_an_environment_for_one_run_uses_its_own_compose_files(tmp_path: Path, name: str, *, gpu: bool) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine(info=replace(FACTS, runtimes=("nvidia",)))
    build(plan(name, stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    values = setup.single_run_values(name, engine=engine, root=root)
    assert (values["REPRISE_ENVIRONMENT"], values["COMPOSE_FILE"]) == (name, setup.compose_files(gpu=gpu))


def test_a_missing_image_is_an_error_with_the_command_that_restores_it(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    here = {"REPRISE_IMAGE": built.reference, "COMPOSE_PROFILES": ""}
    removed = here | {"REPRISE_IMAGE": built.reference[:-4] + "0000"}
    setup.require_images(here, engine=engine)
    setup.require_images(removed | {"REPRISE_PULL": "missing"}, engine=engine)
    local = {**here, "COMPOSE_PROFILES": "store", "COMPOSE_PROJECT_NAME": "mine"}
    setup.require_images(local, engine=replace(engine, running={"store"}))
    for values, message in (
        (removed, "is not in the engine"),
        ({}, "is not built yet"),
        (local, "REPRISE_STORE_IMAGE"),
    ):
        with pytest.raises(ImageMissingError, match=message) as caught:
            setup.require_images(values, engine=engine)
        assert str(caught.value.hint).startswith("scripts/setup --build")
