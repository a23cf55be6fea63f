"""The packages of an environment in the lock equal those that uv exports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.checkouts import LOCK, locked_package
from trainer.environments.lock_file import (
    empty_extras,
    misplaced,
    moved_packages,
    packages,
    requirements_digest,
    supports_python,
    undefined_extras,
)

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGE: Final = {
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}


def export_packages(extras: tuple[str, ...]) -> dict[str, tuple[str, set[str]]]:
    """Return the version and the hashes of each package that `uv export` prints for an image."""
    words = [word for extra in extras for word in ("--extra", extra)]
    options = ("--quiet", "--frozen", "--no-emit-project", "--no-default-groups", "--no-header", "--no-annotate")
    done = subprocess.run(
        [ROOT / "scripts" / "machine" / "uv", "export", *options, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = re.sub(r"\\\n\s*", " ", done.stdout).splitlines()
    expected = [
        (Requirement(re.sub(r"--hash=\S+", "", line)), set(re.findall(r"--hash=(\S+)", line))) for line in lines
    ]
    return {
        each.name: (str(each.specifier).removeprefix("=="), hashes)
        for each, hashes in expected
        if each.marker is None or each.marker.evaluate(IMAGE)
    }


@pytest.mark.parametrize("extras", [("cpu",), ("cuda",), ("store", "samples"), ("cpu", "store", "samples")])
def test_the_packages_match_uv_export(extras: tuple[str, ...]) -> None:
    found = packages((ROOT / "uv.lock").read_text(encoding="utf-8"), extras)
    expected = export_packages(extras)
    assert {name: one.version for name, one in found.items()} == {
        name: version for name, (version, _) in expected.items()
    }
    assert all({digest for _, digest in one.wheels} <= expected[name][1] for name, one in found.items())
    assert all(one.wheels for one in found.values())


def test_every_environment_has_its_own_torch() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert packages(text, ["cpu"])["torch"].version.endswith("+cpu")
    assert packages(text, ["cuda"])["torch"].version == packages(text, ["cpu"])["torch"].version.removesuffix("+cpu")
    assert "torch" not in packages(text, ["store", "samples"])


@pytest.mark.parametrize(
    ("marker", "applies"),
    [
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", True),
        ("sys_platform == 'darwin' or sys_platform == 'win32'", False),
        ("python_full_version < '3.11.3'", True),
        ("python_full_version >= '3.12'", False),
        ("python_full_version == '3.11.*' and 'linux' not in sys_platform", True),
        ("python_version >= '3.9' and implementation_name != 'pypy'", True),
        ("extra == 'extra-7-reprise-cpu' or extra == 'extra-7-reprise-other'", True),
        ("extra == 'extra-7-reprise-cpu' and extra == 'extra-7-reprise-cuda'", False),
        ("python_full_version ~= '3.11'", True),
    ],
)
def test_a_marker_decides_whether_a_package_is_installed(marker: str, applies: bool) -> None:  # noqa: FBT001 - a test's parameter
    text = LOCK.replace("cpu = [", f'cpu = [{{ name = "server", marker = "{marker}" }}, ')
    assert ("server" in packages(text, ["cpu"])) == applies


def test_wheels_for_other_machines_are_ignored() -> None:
    wheels = 'wheels = [{ url = "https://files.invalid/shared-1-py3-none-any.whl"'
    more = "wheels = [" + "".join(
        f'{{ url = "https://files.invalid/shared-1-{tag}.whl", hash = "sha256:1" }},'
        for tag in ("cp312-cp312-manylinux_2_28_x86_64", "cp311-cp311-macosx_14_0_arm64", "py3-none-win_amd64")
    )
    assert wheels in LOCK
    added = LOCK.replace(wheels, more + wheels.removeprefix("wheels = ["))
    assert requirements_digest(added, ["cpu"]) == requirements_digest(LOCK, ["cpu"])
    abi3 = added.replace("cp312-cp312-manylinux", "cp310-abi3-manylinux")
    assert requirements_digest(abi3, ["cpu"]) != requirements_digest(LOCK, ["cpu"])


def test_an_extra_of_a_dependency_includes_its_packages() -> None:
    text = LOCK.replace('store = [{ name = "server" }]', 'store = [{ name = "server", extra = ["fast"] }]')
    text = text.replace(
        'name = "server"\nversion', 'name = "server"\noptional-dependencies = { fast = [{ name = "added" }] }\nversion'
    )
    assert set(packages(text + locked_package("added"), ["store"])) == {"shared", "server", "added"}


def test_without_torch_nothing_is_misplaced() -> None:
    assert misplaced(LOCK, ["store"]) == []
    assert undefined_extras(LOCK, ["cpu", "vision"]) == ["vision"]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_markers_and_wheels_follow_the_environments_python(python: str) -> None:
    minor = python.removeprefix("3.")
    text = LOCK.replace(
        "cpu = [", 'cpu = [{ name = "only", marker = "python_full_version < \'3.12\'" }, { name = "native" }, '
    )
    text += locked_package("only") + locked_package("native", tag="cp311-cp311-manylinux_2_28_x86_64").replace(
        "wheels = [",
        f'wheels = [{{ url = "https://files.invalid/native-1-cp3{minor}-cp3{minor}-manylinux_2_28_x86_64.whl", hash = "sha256:2" }}, ',
    )
    found = packages(text, ["cpu"], python=python)
    assert ("only" in found) == (python == "3.11")
    assert all(f"-cp3{minor}-" in name for name, _ in found["native"].wheels)
    assert (requirements_digest(text, ["cpu"], python=python) == requirements_digest(text, ["cpu"])) == (
        python == "3.11"
    )


def test_an_extra_whose_markers_exclude_python_or_machine_is_empty() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    extras = ("cpu", "store")
    assert empty_extras(text, extras, python="3.11") == []
    assert empty_extras(text, extras, python="3.12") == ["cpu", "store"]
    assert empty_extras(text, extras, python="3.11", machine="aarch64") == ["cpu", "store"]
    assert empty_extras(LOCK, ["cpu", "samples"], python="3.12", machine="aarch64") == []


@pytest.mark.parametrize(
    ("python", "supported"), [("3.10", False), ("3.11", True), ("3.13", True), ("3.14", False), ("3.9", False)]
)
def test_python_must_be_in_the_range_of_the_lock(python: str, supported: bool) -> None:  # noqa: FBT001 - a test's parameter
    assert supports_python((ROOT / "uv.lock").read_text(encoding="utf-8"), python) == supported
    assert supports_python(LOCK, python)


def test_moved_packages_are_those_whose_versions_differ() -> None:
    after = LOCK.replace("2.13.0", "2.14.0") + locked_package("added")
    assert moved_packages(LOCK, LOCK) == []
    assert moved_packages(LOCK, after) == [
        ("added", "", "1"),
        ("torch", "2.13.0, 2.13.0+cpu", "2.14.0, 2.14.0+cpu"),
    ]
    assert moved_packages(after, LOCK)[0] == ("added", "1", "")
