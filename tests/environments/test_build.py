"""Builds of images: the requests to the engine, and the cases in which no build is needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.checkouts import BASE, LOCK, MACHINE, locked_package, write_checkout
from tests.environments.engine.memory import FACTS, MemoryEngine
from trainer.base.errors import ImageBuildError
from trainer.environments.build import build, find_built_image, plan, recipe
from trainer.environments.package_indexes import Indexes

if TYPE_CHECKING:
    from trainer.environments.build import Stage
    from trainer.environments.engine import BuildRequest, Digests


class RecordingEngine(MemoryEngine):
    def __init__(self) -> None:
        super().__init__()
        self.index = ""
        self.wheels: list[str] = []
        self.seen: set[str] = set()

    def build(self, request: BuildRequest) -> Digests:
        self.index = request.secrets["index"].read_text()
        self.wheels = sorted(path.name for path in Path(request.contexts["wheels"]).iterdir())
        self.seen = {path.relative_to(request.root).as_posix() for path in request.root.rglob("*") if path.is_file()}
        return super().build(request)


def test_the_same_inputs_have_the_same_tag(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    tags = [
        plan("cpu", stage=stage, base=BASE, root=root).tag
        for stage in ("environment", "environment", "code", "development")
    ]
    assert tags[0] == tags[1]
    assert len(set(tags)) == 3


def test_an_existing_image_is_not_built_again(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    assert find_built_image("cpu", stage="environment", engine=engine, root=root) is None
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    found = find_built_image("cpu", stage="environment", engine=engine, root=root)
    assert found == replace(built, seconds=None)
    assert len(engine.built) == 1


def test_an_edit_of_the_lock_changes_the_image(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    (root / "uv.lock").write_text(LOCK.replace("2.13.0", "2.14.0"))
    assert find_built_image("cpu", stage="environment", engine=engine, root=root) is None


def test_a_change_for_another_environment_needs_no_build(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    (root / "uv.lock").write_text(LOCK.replace("store = [", 'store = [{ name = "added" }, ') + locked_package("added"))
    assert find_built_image("cpu", stage="environment", engine=engine, root=root) is not None
    assert find_built_image("store", stage="environment", engine=engine, root=root) is None


@pytest.mark.parametrize("stage", ["code", "development"])
def test_a_stage_with_the_whole_lock_depends_on_all_of_it(tmp_path: Path, stage: Stage) -> None:
    root = write_checkout(tmp_path)
    before = plan("cpu", stage=stage, base=BASE, root=root)
    (root / "uv.lock").write_text(LOCK + locked_package("other"))
    after = plan("cpu", stage=stage, base=BASE, root=root)
    assert after.build_id == before.build_id
    assert after.tag != before.tag


def test_the_code_stage_depends_on_the_code(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    before = plan("cpu", stage="code", base=BASE, root=root)
    (root / "trainer" / "new.py").write_text("x = 1\n")
    after = plan("cpu", stage="code", base=BASE, root=root)
    assert before.tag != after.tag
    assert before.build_id == after.build_id


def test_the_code_image_contains_no_ignored_or_secret_file(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), RecordingEngine()
    (root / ".gitignore").write_text("build/\nmine.py\n")
    (root / "trainer/new.py").write_text("x = 1\n")
    before = plan("cpu", stage="code", base=BASE, root=root)
    for name in ("trainer/mine.py", "trainer/build/a.py", "datasets/build/a.toml", "trainer/.env", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    (root / "trainer/key.py").write_text("API_" + "KEY = 'q7Jw0fM1zXk29TbLr8sVnE4cYh'\n")
    expected = plan("cpu", stage="code", base=BASE, root=root)
    build(expected, engine=engine, machine=MACHINE, root=root)
    assert expected == before
    assert engine.seen >= {"trainer/new.py", "uv.lock", "docker/describe", "environments/cpu.toml"}
    assert not engine.seen & {"trainer/mine.py", "trainer/build/a.py", "trainer/key.py", "trainer/.env", "notes.txt"}


def test_the_image_contains_its_build_id_and_lock_digest(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    expected = plan("cpu", stage="environment", base=BASE, root=root)
    build(expected, engine=engine, machine=MACHINE, root=root)
    baked = json.loads(engine.built[0].arguments["IMAGE_JSON"])
    assert baked["build_id"] == expected.build_id
    assert baked["lock"] == expected.inputs.lock
    assert baked["environment"] == "cpu"


def test_declared_variables_are_set_in_the_image(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    assert 'PYTHONHASHSEED="0"' in engine.built[0].recipe
    with pytest.raises(ImageBuildError, match="no line `# variables`"):
        recipe("FROM scratch\n", {"A": "b"})


def test_indexes_are_passed_as_a_secret_and_only_locked_wheels_as_a_folder(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path / "checkout"), RecordingEngine()
    for name in ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "other-1.whl"):
        (tmp_path / name).touch()
    indexes = Indexes(
        variables={"UV_DEFAULT_INDEX": "https://me:word@mirror.example/"}, folders=(tmp_path,), left_out=()
    )
    build(
        plan("cpu", stage="environment", base=BASE, root=root),
        engine=engine,
        machine=replace(MACHINE, indexes=indexes),
        root=root,
    )
    assert "word" not in str(engine.built[0].arguments)
    assert engine.index == "UV_DEFAULT_INDEX=https://me:word@mirror.example/\n"
    assert engine.wheels == ["torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"]


def test_without_manifests_an_image_is_referenced_by_its_config(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine(info=replace(FACTS, keeps_manifests=False))
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    assert built.manifest is None
    assert built.reference == built.config


def test_a_package_for_another_torch_is_rejected_before_the_build(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    vision = locked_package("torchvision", needs=("torch",), tag="cp311-cp311-manylinux_2_28_x86_64").replace(
        "index.in", "other.in"
    )
    (root / "uv.lock").write_text(LOCK.replace("cpu = [", 'cpu = [{ name = "torchvision" }, ') + vision)
    expected = plan("cpu", stage="environment", base=BASE, root=root)
    with pytest.raises(ImageBuildError, match=r"uv\.lock has torchvision 1 for another build of torch"):
        build(expected, engine=engine, machine=MACHINE, root=root)
    assert engine.built == []
    (root / "pyproject.toml").write_text('[tool.reprise]\nany-torch-build = ["torchvision"]\n')
    build(expected, engine=engine, machine=MACHINE, root=root)


def test_an_image_is_not_built_for_a_machine_that_its_extras_exclude(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine(info=replace(FACTS, architecture="aarch64"))
    server = '{ name = "server" }'
    text = LOCK.replace(server, server.replace(" }", ", marker = \"platform_machine == 'x86_64'\" }"))
    (root / "uv.lock").write_text(text)
    with pytest.raises(ImageBuildError, match="extra 'store' has no package for the engine's machine, aarch64"):
        build(plan("store", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    assert engine.built == []
    build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)


def test_the_bases_python_must_be_the_declared_one(tmp_path: Path) -> None:
    root, engine = write_checkout(tmp_path), MemoryEngine()
    build(plan("cpu", stage="environment", base=BASE, root=root), engine=engine, machine=MACHINE, root=root)
    packages = engine.built[0].arguments["SYSTEM_PACKAGES"].split()
    assert "python3=3.11*" in packages
    assert "python3" not in packages
