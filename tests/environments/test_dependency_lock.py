"""Locking a change of dependencies with the real uv, on two local indexes: a general index and an index of torch's CPU builds."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import shutil
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from trainer.base.errors import LockError, UsageError
from trainer.environments.declaration import load_environment, read_lock, requirements_of
from trainer.environments.dependencies import Requirement, listed, parse_requirement
from trainer.environments.dependency_lock import (
    add_packages,
    lock,
    lock_error,
    remove_packages,
    require_unused,
    scope_of,
)
from trainer.environments.lock_file import moved_packages, packages
from trainer.environments.trial import changeable_files

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.index  # uv comes from the index; the tests' packages do not

ROOT: Final = Path(__file__).resolve().parents[2]
NATIVE: Final = "cp311-cp311-manylinux_2_28_x86_64"
WHEELS: Final = {
    "simple": (
        ("torch", "2.13.0", NATIVE, ()),
        ("torchvision", "0.27.0", NATIVE, ("torch==2.12.0",)),
        ("torchvision", "0.28.0", NATIVE, ("torch==2.13.0",)),
        ("timm", "1.0.3", "py3-none-any", ("torch", "torchvision")),
        ("tensordict", "0.9.0", NATIVE, ("torch",)),
        ("einops", "0.7.0", "py3-none-any", ()),
        ("einops", "0.8.2", "py3-none-any", ()),
        ("numpy", "1.26.0", NATIVE, ()),
        ("numpy", "2.3.0", NATIVE, ()),
        ("aged", "1.0", "py3-none-any", ("numpy<2",)),
        ("winonly", "3.0", "cp311-cp311-win_amd64", ()),
        ("uv", "0.13.8", "py3-none-any", ()),
    ),
    "cpu": (("torch", "2.13.0+cpu", NATIVE, ()), ("torchvision", "0.28.0+cpu", NATIVE, ("torch==2.13.0",))),
}
MARKER: Final = "python_full_version < '3.12' and sys_platform == 'linux' and platform_machine == 'x86_64'"
PROJECT: Final = """[project]
name = "reprise"
version = "0"
requires-python = ">=3.11,<3.14"

[project.optional-dependencies]
cpu = [
    "numpy>=2 ; {marker}",
    "torch==2.13.0 ; {marker}", # the CPU build
]
cuda = [
    "numpy>=2 ; {marker}",
    "torch==2.13.0 ; {marker}",
]
store = [
    "numpy>=2 ; {marker}",
]

[dependency-groups]
uv = ["uv==0.13.8"]

[tool.uv]
conflicts = [[{{ extra = "cpu" }}, {{ extra = "cuda" }}]]
environments = ["sys_platform == 'linux' and platform_machine == 'x86_64'"]
no-build = true
fork-strategy = "fewest"

[[tool.uv.index]]
name = "pytorch-cpu"
url = "{index}"
explicit = true

[tool.uv.sources]
torch = [{{ index = "pytorch-cpu", extra = "cpu" }}]
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - the base class's parameter name
        pass


def write_wheel(folder: Path, name: str, version: str, tag: str, needs: tuple[str, ...]) -> Path:
    """Write a wheel with one module and return its path."""
    path, info = folder / f"{name}-{version}-{tag}.whl", f"{name}-{version}.dist-info"
    pure = "true" if tag.endswith("any") else "false"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {each}\n" for each in needs),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\nTag: {tag}\n",
    }
    digest = {
        each: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        for each, text in files.items()
    }
    rows = [f"{each},sha256={digest[each].decode()},{len(text)}" for each, text in files.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in {**files, f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,", ""])}.items():
            archive.writestr(each, text)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of two package indexes on the loopback device, `/simple` and `/cpu`."""
    home = tmp_path_factory.mktemp("indexes")
    for index, wheels in WHEELS.items():
        for name, version, tag, needs in wheels:
            (home / index / name).mkdir(parents=True, exist_ok=True)
            write_wheel(home / index / name, name, version, tag, needs)
    (home / "simple" / "sourceonly").mkdir()
    (home / "simple" / "sourceonly" / "sourceonly-1.0.tar.gz").write_bytes(b"")
    for folder in home.glob("*/*"):
        links = "".join(
            f'<a href="{file.name}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">{file.name}</a>'
            for file in sorted(folder.iterdir())
        )
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(home))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture(scope="module")
def locked(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a locked checkout with the environments `cpu`, `cuda`, `store`, and `vision`, which shares the extra `cpu`."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("scripts", "environments", "trainer/environments"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "trainer" / "__init__.py", root / "trainer")
    (root / "environments" / "store.toml").write_text('like = "cpu"\nextras = ["store"]\n')
    (root / "environments" / "vision.toml").write_text('like = "cpu"\nextras = ["cpu"]\n')
    (root / "pyproject.toml").write_text(PROJECT.format(marker=MARKER, index=f"{server}/cpu"))
    committed = (ROOT / "uv.lock").read_text()
    block = re.search(r'\[\[package\]\]\nname = "uv"\n(?:.+\n)+', committed)
    assert block is not None
    (root / "uv.lock").write_text(f'version = 1\nrequires-python = ">=3.11, <3.14"\n\n{block[0]}')
    (ROOT / ".reprise").mkdir(exist_ok=True)
    (root / ".reprise").symlink_to(ROOT / ".reprise")
    with pytest.MonkeyPatch.context() as patch:
        use(server, patch)
        lock(root, name="torch")
    return root


def use(server: str, patch: pytest.MonkeyPatch) -> None:
    """Make pip, and therefore uv, use only the local index."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        patch.delenv(name)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{server}/simple"}.items():
        patch.setenv(name, value)


@pytest.fixture
def root(locked: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the locked checkout."""
    use(server, monkeypatch)
    shutil.copytree(locked, tmp_path / "checkout", symlinks=True)
    return tmp_path / "checkout"


def add(root: Path, *typed: str, environment: str | None = None) -> list[tuple[str, str, str]]:
    """Add packages, and return the changes of the lock."""
    before = read_lock(root)
    add_packages([parse_requirement(each) for each in typed], scope_of(environment, root=root), root=root)
    return moved_packages(before, read_lock(root))


def versions(root: Path, environment: str) -> dict[str, str]:
    """Return the packages of an environment with their versions."""
    declared = load_environment(environment, root=root)
    return {name: each.version for name, each in packages(read_lock(root), declared.extras).items()}


def test_a_package_is_added_to_every_environment_with_torch(root: Path) -> None:
    assert add(root, "einops") == [("einops", "", "0.8.2")]
    assert listed("einops", root=root) == {"cpu": "einops>=0.8.2", "cuda": "einops>=0.8.2"}
    assert all(versions(root, name)["einops"] == "0.8.2" for name in ("cpu", "cuda", "vision"))
    assert "einops" not in versions(root, "store")


def test_an_added_and_removed_package_leaves_every_file_as_it_was(root: Path) -> None:
    before = changeable_files(root)
    for environment in (None, "vision"):
        add(root, "timm", environment=environment)
        assert changeable_files(root) != before
        for name in ("timm", "torchvision"):
            remove_packages([name], scope_of(environment, root=root), root=root)
        assert changeable_files(root) == before


def test_a_typed_version_is_kept_and_can_be_changed(root: Path) -> None:
    assert add(root, "einops<0.8") == [("einops", "", "0.7.0")]
    assert listed("einops", root=root)["cpu"] == "einops<0.8"
    with pytest.raises(UsageError, match=r"einops is already in cpu, cuda: einops<0\.8"):
        add(root, "einops")
    assert add(root, "einops==0.8.2") == [("einops", "0.7.0", "0.8.2")]


@pytest.mark.parametrize("typed", ["torchvision", "timm"])
def test_packages_that_link_torch_come_from_the_index_of_each_environments_torch(root: Path, typed: str) -> None:
    add(root, typed)
    assert versions(root, "cpu")["torchvision"] == "0.28.0+cpu"
    assert versions(root, "cuda")["torchvision"] == "0.28.0"
    assert listed("torchvision", root=root) == {"cpu": "torchvision==0.28.0", "cuda": "torchvision==0.28.0"}
    assert 'torchvision = [{ index = "pytorch-cpu", extra = "cpu" }]' in (root / "pyproject.toml").read_text()


def test_a_typed_version_of_a_package_that_links_torch_is_kept(root: Path) -> None:
    add(root, "torchvision<0.29")
    assert listed("torchvision", root=root) == {"cpu": "torchvision<0.29", "cuda": "torchvision<0.29"}
    add(root, "timm")
    assert listed("torchvision", root=root)["cpu"] == "torchvision<0.29"
    assert versions(root, "cpu")["torchvision"] == "0.28.0+cpu"


def test_an_environment_gets_an_extra_of_its_own(root: Path) -> None:
    digests = {name: requirements_of(load_environment(name, root=root), root=root) for name in ("cpu", "cuda", "store")}
    add(root, "torchvision", "einops", environment="vision")
    assert load_environment("vision", root=root).extras == ("cpu", "vision")
    assert listed("torchvision", root=root) == {"vision": "torchvision==0.28.0"}
    assert versions(root, "vision") == {
        "numpy": "2.3.0",
        "torch": "2.13.0+cpu",
        "torchvision": "0.28.0+cpu",
        "einops": "0.8.2",
    }
    assert digests == {name: requirements_of(load_environment(name, root=root), root=root) for name in digests}


def test_an_environment_with_cudas_torch_gets_the_ordinary_build(root: Path) -> None:
    add(root, "torchvision", environment="cuda")
    assert versions(root, "cuda")["torchvision"] == "0.28.0"
    assert "torchvision" not in versions(root, "cpu")
    assert "torchvision =" not in (root / "pyproject.toml").read_text()


def test_a_package_for_every_torch_needs_the_exemption(root: Path) -> None:
    with pytest.raises(LockError, match="tensordict links torch, but torch's own index has no build of it") as caught:
        add(root, "tensordict")
    assert '[tool.reprise] any-torch-build = ["tensordict"]' in str(caught.value.hint)


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        ("nowhere", "the package index has no package 'nowhere'", "reprise add --system nowhere"),
        ("einops>=99", "einops cannot be locked: only einops", "another version"),
        ("sourceonly", "sourceonly has no wheel for the images", "A package without a wheel"),
        ("winonly", "winonly has no wheel for the images", "A package without a wheel"),
        ("aged", "aged cannot be locked: .*numpy", "another version"),
    ],
)
def test_a_package_that_cannot_be_locked_is_an_error_with_ways_out(
    root: Path, typed: str, message: str, hint: str
) -> None:
    before = read_lock(root)
    with pytest.raises(LockError, match=message) as caught:
        add(root, typed)
    assert hint in str(caught.value.hint)
    assert read_lock(root) == before


def test_an_unreachable_index_is_an_error_with_its_address(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(LockError, match=r"einops cannot be locked: .*127\.0\.0\.1:9") as caught:
        add(root, "einops")
    assert caught.value.hint == "docs/how-to/mirror.md"


def test_only_a_listed_package_can_be_removed(root: Path) -> None:
    add(root, "einops")
    with pytest.raises(UsageError, match=r"no extra of pyproject\.toml lists einop") as unknown:
        remove_packages(["einop"], scope_of(None, root=root), root=root)
    assert unknown.value.hint == "did you mean einops?"
    with pytest.raises(UsageError, match="einops is in cpu, cuda, which other environments install too"):
        remove_packages(["einops"], scope_of("vision", root=root), root=root)


def test_a_package_that_a_module_imports_cannot_be_removed(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "net.py").write_text('"""A net."""\n\nfrom einops_fast.torch import rearrange\n')
    with pytest.raises(UsageError, match=r"trainer/net\.py:3 imports einops-fast"):
        require_unused("einops-fast", root=tmp_path)
    require_unused("einops", root=tmp_path)


def test_the_reason_of_an_own_check_keeps_its_edit() -> None:
    output = "Resolved 3 packages\npyproject.toml: index pytorch-cpu has no upload times\n  -> in [tool.uv]: x = 1\nlock: edit\n"
    fault = lock_error(output, "einops")
    assert fault.message == "einops cannot be locked: index pytorch-cpu has no upload times"
    assert fault.hint == "in [tool.uv]: x = 1"
    assert str(Requirement(name="einops")) == "einops"
