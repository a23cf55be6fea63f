"""Declarations, pins, and the build ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checkouts import BASE, LOCK, ROOT, write_checkout
from trainer.base.errors import DocumentError, EnvironmentNameError
from trainer.environments.declaration import environment_names, inputs_of, load_environment, load_pin

if TYPE_CHECKING:
    from pathlib import Path


def build_id(name: str, root: Path) -> str:
    return inputs_of(load_environment(name, root=root), base=BASE, root=root).build_id


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_cuda_differs_from_cpu_only_by_its_extra() -> None:
    cpu, cuda = (load_environment(name, root=ROOT) for name in ("cpu", "cuda"))
    assert cuda.extras == ("cuda",)
    assert cuda.model_dump(exclude={"name", "extras"}) == cpu.model_dump(exclude={"name", "extras"})


def test_every_declared_environment_is_well_formed() -> None:
    assert [load_environment(name, root=ROOT).name for name in environment_names(ROOT)] == ["cpu", "cuda", "store"]


def test_an_unknown_environment_suggests_the_nearest() -> None:
    with pytest.raises(EnvironmentNameError, match="unknown environment 'cuba'") as caught:
        load_environment("cuba", root=ROOT)
    assert caught.value.hint == "did you mean cuda?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('like = "cpu"\nextra = ["cpu"]\nextras = ["cpu"]', "unknown key 'extra'"),
        ('extras = ["cpu"]', "'base' is missing"),
        ('like = "cuda"\nextras = ["cpu"]', "is itself like 'cpu'; expected an environment without"),
        ('like = "cpu"\nextras = []', "extras: found"),
        ('like = "cpu"\nextras = ["cpu"]\nbase = "debian:bookworm"', "base: found 'debian:bookworm'"),
        ('like = "cpu"\nextras = ["cpu"]\npackages = ["rm -rf /"]', "packages.0: found 'rm -rf /'"),
        ('like = "cpu"\nextras = ["cpu"]\n[variables]\nA = "two\\nlines"', "variables.A: found"),
        ("extras = [", "is not valid TOML"),
    ],
)
def test_an_invalid_declaration_is_rejected_by_name(tmp_path: Path, text: str, message: str) -> None:
    root = write_checkout(tmp_path)
    (root / "environments" / "mine.toml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_environment("mine", root=root)
    assert message in caught.value.message
    assert "mine.toml" in caught.value.message


def test_like_inherits_undeclared_values(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    (root / "environments" / "mine.toml").write_text('like = "cpu"\nextras = ["cpu"]\n[variables]\nTZ = "CET"\n')
    mine, cpu = load_environment("mine", root=root), load_environment("cpu", root=root)
    assert mine.variables == cpu.variables | {"TZ": "CET"}
    assert mine.packages == cpu.packages


@pytest.mark.parametrize(
    "file",
    [
        "docker/Dockerfile",
        "docker/install-packages",
        "trainer/environments/inventory.py",
        "trainer/environments/import_test.py",
    ],
)
def test_every_input_changes_the_build_id(tmp_path: Path, file: str) -> None:
    root = write_checkout(tmp_path)
    before = inputs_of(load_environment("cpu", root=root), base=BASE, root=root).build_id
    with (root / file).open("a") as out:
        out.write("#\n")
    assert inputs_of(load_environment("cpu", root=root), base=BASE, root=root).build_id != before


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        ('name = "shared"\nversion = "1"', 'name = "shared"\nversion = "2"', ["cpu", "cuda", "store"]),
        ('name = "uv"\nversion = "1"', 'name = "uv"\nversion = "2"', ["cpu", "cuda", "store"]),
        ('name = "server"\nversion = "1"', 'name = "server"\nversion = "2"', ["store"]),
        ("cuda = [", 'cuda = [{ name = "server" }, ', ["cuda"]),
        ("# the end", "# another end", []),
    ],
)
def test_a_change_of_the_lock_changes_the_environments_that_install_it(
    tmp_path: Path, old: str, new: str, moved: list[str]
) -> None:
    root = write_checkout(tmp_path)
    (root / "uv.lock").write_text(f"{LOCK}# the end\n")
    before = {name: build_id(name, root) for name in ("cpu", "cuda", "store")}
    spoil(root / "uv.lock", old, new)
    assert [name for name in before if build_id(name, root) != before[name]] == moved


def test_an_extra_that_the_lock_does_not_have_is_an_error_before_the_build(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    (root / "environments" / "vision.toml").write_text('like = "cpu"\nextras = ["cpu", "vision"]\n')
    with pytest.raises(DocumentError, match=r"environment vision: uv\.lock has no extra 'vision'") as caught:
        build_id("vision", root)
    assert "scripts/lock" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["<<<<<<< ours\n", "[[package]]\nversion = '1'\n"])
def test_a_lock_with_conflict_markers_is_an_error_with_a_hint(tmp_path: Path, text: str) -> None:
    root = write_checkout(tmp_path)
    (root / "uv.lock").write_text(text)
    with pytest.raises(DocumentError, match="is not a uv lock file") as caught:
        build_id("cpu", root)
    assert "git checkout uv.lock" in str(caught.value.hint)


def test_the_code_does_not_change_the_build_id(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    before = inputs_of(load_environment("cpu", root=root), base=BASE, root=root).build_id
    (root / "trainer" / "new.py").write_text("x = 1\n")
    assert inputs_of(load_environment("cpu", root=root), base=BASE, root=root).build_id == before


def test_the_pin_does_not_change_the_build_id(tmp_path: Path) -> None:
    """Otherwise an image could never match its own pin."""
    root = write_checkout(tmp_path)
    before = inputs_of(load_environment("cpu", root=root), base=BASE, root=root).build_id
    (root / "environments" / "cpu.pin.toml").write_text("anything")
    assert inputs_of(load_environment("cpu", root=root), base=BASE, root=root).build_id == before


def test_a_pin_of_another_environment_is_rejected(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    digest = f"sha256:{'a' * 64}"
    lines = [
        f'environment = "cuda"\nreference = "r.example/cuda@{digest}"',
        f'config = "{digest}"\nbuild_id = "{digest}"',
    ]
    (root / "environments" / "cpu.pin.toml").write_text("\n".join([*lines, "layers = []"]))
    with pytest.raises(DocumentError, match="pins 'cuda'; expected 'cpu'"):
        load_pin("cpu", root=root)


def test_the_repository_contains_no_pin() -> None:
    assert not list((ROOT / "environments").glob("*.pin.toml"))


def declare_python(root: Path, python: str) -> None:
    """Declare an environment with the given Python."""
    (root / "environments" / "mine.toml").write_text(f'like = "cpu"\npython = "{python}"\nextras = ["cpu"]\n')


def test_the_python_of_an_environment_is_part_of_its_build_id(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    declare_python(root, "3.11")
    before = build_id("mine", root)
    declare_python(root, "3.13")
    assert load_environment("mine", root=root).python == "3.13"
    assert build_id("mine", root) != before


@pytest.mark.parametrize("python", ["3", "3.11.2", "2.7", "3.x"])
def test_python_is_a_minor_version(tmp_path: Path, python: str) -> None:
    root = write_checkout(tmp_path)
    declare_python(root, python)
    with pytest.raises(DocumentError, match="python: found"):
        load_environment("mine", root=root)


def test_a_python_that_the_lock_is_not_made_for_is_rejected(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    (root / "uv.lock").write_text(f'requires-python = ">=3.11, <3.14"\n{LOCK}')
    declare_python(root, "3.14")
    with pytest.raises(DocumentError, match=r"environment mine: python is '3\.14'; expected .* >=3\.11, <3\.14"):
        build_id("mine", root)


def test_an_extra_without_a_package_for_this_python_is_rejected(tmp_path: Path) -> None:
    root = write_checkout(tmp_path)
    torch = '{ name = "torch", version = "2.13.0+cpu" }'
    marked = torch.replace(" }", ", marker = \"python_full_version < '3.12'\" }")
    (root / "uv.lock").write_text(LOCK.replace(torch, marked))
    declare_python(root, "3.12")
    with pytest.raises(DocumentError, match=r"the markers of extra 'cpu' leave no package for Python 3\.12") as caught:
        build_id("mine", root)
    assert "edit the markers of 'cpu'" in str(caught.value.hint)
