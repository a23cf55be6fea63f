"""The lock names no machine or mirror, and has a single build of torch for each environment; `scripts/lock --check` checks this offline."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Final

import lock
import pytest

from trainer.training.declared_settings import sketched

ROOT: Final = Path(__file__).resolve().parent.parent
TORCH: Final = "https://torch.example/whl/cpu"
HASH: Final = "sha256:" + "0" * 64

MADE: Final = f"""version = 1

[[package]]
name = "a"
version = "1"
source = {{ registry = "https://mirror.example/simple" }}
sdist = {{ url = "https://mirror.example/x/y/a-1.tar.gz", hash = "{HASH}", size = 1 }}
wheels = [
    {{ path = "/srv/wheels/a-1-py3-none-any.whl", hash = "{HASH}" }},
]

[[package]]
name = "torch"
version = "2+cpu"
source = {{ registry = "http://127.0.0.1:1" }}
wheels = [
    {{ path = "/srv/wheels/torch-2+cpu-cp311-cp311-linux_x86_64.whl", hash = "{HASH}" }},
]
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the lock's inputs, which a test can damage."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("trainer/environments", "environments"):
        (tmp_path / folder).mkdir(parents=True)
    for path in (
        "pyproject.toml",
        "uv.lock",
        "trainer/__init__.py",
        "trainer/environments/__init__.py",
        "trainer/environments/lock_file.py",
        "environments/cpu.toml",
        "environments/cuda.toml",
    ):
        shutil.copyfile(ROOT / path, tmp_path / path)
    (ROOT / ".reprise").mkdir(exist_ok=True)
    (tmp_path / ".reprise").symlink_to(ROOT / ".reprise")
    return tmp_path


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def run_check(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([home / "scripts" / "lock", "--check"], capture_output=True, text=True, check=False)


def test_a_lock_is_the_same_wherever_it_is_made() -> None:
    text = lock.neutral(MADE, torch={"http://127.0.0.1:1": TORCH, TORCH: TORCH})
    assert 'source = { registry = "https://index.invalid/simple" }' in text
    assert 'url = "https://files.invalid/a-1.tar.gz"' in text
    assert 'url = "https://files.invalid/a-1-py3-none-any.whl"' in text
    assert f'source = {{ registry = "{TORCH}" }}' in text
    assert f'url = "{TORCH}/torch-2%2Bcpu-cp311-cp311-linux_x86_64.whl"' in text
    assert not lock.places(text, TORCH)
    assert not lock.hashes(text)


def test_a_neutral_lock_stays_as_it_is() -> None:
    text = lock.neutral(MADE, torch={"http://127.0.0.1:1": TORCH, TORCH: TORCH})
    assert lock.neutral(text, torch={TORCH: TORCH}) == text


def test_the_committed_lock_is_current_neutral_and_complete(copy: Path) -> None:
    done = run_check(copy)
    assert done.stdout.startswith("uv.lock: current, neutral, complete: ")
    assert done.returncode == 0


def test_an_address_in_the_lock_is_rejected_with_its_line(copy: Path) -> None:
    spoil(copy / "uv.lock", "https://files.invalid/", "https://mirror.example/a/")
    done = run_check(copy)
    assert done.returncode == 1
    assert "uv.lock:" in done.stderr
    assert "found https://mirror.example/a/" in done.stderr
    assert done.stderr.endswith("lock: run scripts/lock and commit uv.lock\n")


def test_a_file_without_a_hash_is_rejected_by_name(copy: Path) -> None:
    spoil(copy / "uv.lock", 'hash = "sha256:', 'hash = "md5:')
    done = run_check(copy)
    assert done.returncode == 1
    assert "found no sha256 for https://files.invalid/" in done.stderr


def test_a_requirement_missing_in_the_lock_is_rejected(copy: Path) -> None:
    spoil(copy / "pyproject.toml", '"rich>=14.2"', '"rich>=14.3"')
    done = run_check(copy)
    assert done.returncode == 1
    assert "uv.lock does not match pyproject.toml" in done.stderr


def test_a_lock_that_is_not_toml_is_one_line(copy: Path) -> None:
    spoil(copy / "uv.lock", "version = 1", "<<<<<<< ours")
    done = run_check(copy)
    assert done.returncode == 1
    assert done.stderr.startswith("uv.lock: cannot be read: ")
    assert "Traceback" not in done.stderr


def test_no_other_file_names_a_registry() -> None:
    """The only address in the repository is PyTorch's index, in pyproject.toml and in the lock."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    hosts = tuple(
        "".join(parts)
        for parts in (("py", "pi.org"), ("pythonhosted", ".org"), ("deb.debian", ".org"), ("npmjs", ".org"))
    )
    named = {
        name
        for name in listed.split("\0")
        if name and (ROOT / name).is_file()
        for host in (*hosts, "download.pytorch" + ".org")
        if host.encode() in (ROOT / name).read_bytes()
    }
    assert named == {"pyproject.toml", "uv.lock"}
    assert not any(host in (ROOT / name).read_text(encoding="utf-8") for name in named for host in hosts)


# --- packages that link torch

PAGE: Final = (ROOT / "docs" / "how-to" / "environments.md").read_text(encoding="utf-8")
VISION: Final = "torchvision-0.28.0-cp311-cp311-manylinux_2_28_x86_64"
CPU_TORCH: Final = (
    '{ name = "torch", version = "2.13.0+cpu", source = { registry = "' + lock.torch_index()[1] + '" }, '
    "marker = \"extra == 'extra-7-reprise-cpu'\" }"
)
CUDA_TORCH: Final = (
    '{ name = "torch", version = "2.13.0", source = { registry = "https://index.invalid/simple" }, '
    "marker = \"extra == 'extra-7-reprise-cuda'\" }"
)


def with_package(text: str, name: str, *, wheel: str, index: str = lock.INDEX, extras: str = "cpu cuda") -> str:
    """Return a lock to which the extras add a package that depends on torch."""
    for extra in extras.split():
        text = text.replace(f"\n{extra} = [\n", f'\n{extra} = [\n    {{ name = "{name}" }},\n', 1)
    return f"""{text}
[[package]]
name = "{name}"
version = "0.28.0"
source = {{ registry = "{index}" }}
dependencies = [{CPU_TORCH}, {CUDA_TORCH}]
wheels = [{{ url = "https://files.invalid/{wheel}.whl", hash = "{HASH}" }}]
"""


@pytest.fixture
def committed() -> str:
    return (ROOT / "uv.lock").read_text(encoding="utf-8")


def test_torchvision_of_the_default_index_is_rejected_beside_torchs_cpu_build(committed: str) -> None:
    (problem,) = lock.other_torch(with_package(committed, "torchvision", wheel=VISION))
    assert problem.startswith("uv.lock: environment cpu: found torchvision 0.28.0 from the default index, expected the")
    assert 'add: torchvision = [{ index = "pytorch-cpu", extra = "cpu" }]; in exclude-newer-package, add: t' in problem


def test_a_cpu_build_is_rejected_beside_torchs_cuda_build(committed: str) -> None:
    (problem,) = lock.other_torch(with_package(committed, "torchvision", wheel=VISION, index=lock.torch_index()[1]))
    assert problem.startswith(
        "uv.lock: environment cuda: found torchvision 0.28.0 from index pytorch-cpu, expected the"
    )
    assert 'limit the line of torchvision to the extra that has torch\'s CPU build: extra = "cpu"' in problem


def test_a_linked_transitive_package_must_be_listed(committed: str) -> None:
    text = with_package(committed, "torchvision", wheel=VISION, extras="").replace(
        '\nname = "torchmetrics"\nversion = "1.9.0"\nsource = { registry = "https://index.invalid/simple" }\ndependencies = [',
        '\nname = "torchmetrics"\nversion = "1.9.0"\nsource = { registry = "https://index.invalid/simple" }\ndependencies = ['
        '{ name = "torchvision" },',
    )
    (problem,) = lock.other_torch(text)
    assert "list torchvision in extra cpu too" in problem


@pytest.mark.parametrize(
    "wheel", ["torchdata-0.28.0-py3-none-any", "torchdata-0.28.0-cp312-cp312-manylinux_2_28_x86_64"]
)
def test_a_package_without_native_code_may_come_from_any_index(committed: str, wheel: str) -> None:
    assert lock.other_torch(with_package(committed, "torchdata", wheel=wheel)) == []


def test_a_package_named_after_torch_counts_as_linked(committed: str) -> None:
    text = with_package(committed, "torchcodec", wheel=VISION).replace(
        f"dependencies = [{CPU_TORCH}, {CUDA_TORCH}]\n", ""
    )
    assert "found torchcodec 0.28.0" in lock.other_torch(text)[0]


def test_packages_that_work_with_every_torch_are_exempt_by_name(
    copy: Path, committed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PROJECT", copy / "pyproject.toml")
    spoil(copy / "pyproject.toml", "[tool.ruff]", '[tool.reprise]\nany-torch-build = ["tensordict"]\n\n[tool.ruff]')
    assert lock.other_torch(with_package(committed, "tensordict", wheel=VISION)) == []
    assert lock.other_torch(with_package(committed, "bitsandbytes", wheel=VISION))


def test_the_page_contains_the_lines_of_the_errors(copy: Path, committed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = lock.other_torch(with_package(committed, "torchvision", wheel=VISION))
    line = problem.partition("add: ")[2].partition(";")[0]
    monkeypatch.setattr(lock, "PROJECT", copy / "pyproject.toml")
    spoil(copy / "pyproject.toml", "[tool.uv.sources]", f"[tool.uv.sources]\n{line}")
    exception = lock.packages_without_upload_time()[0].rpartition("[tool.uv]: ")[2]
    assert f"   {line}\n" in PAGE
    assert f"   {exception}\n" in PAGE
    spoil(copy / "pyproject.toml", "exclude-newer-package = { torch = false }", exception)
    assert lock.packages_without_upload_time() == []


def test_the_experiment_on_the_page_declares_its_settings() -> None:
    block = PAGE.partition("   ```python\n")[2].partition("   ```\n")[0]
    sketch = sketched(textwrap.dedent(block))
    assert sketch is not None
    assert sketch.settings().value_of("degrees") == 10.0


def test_a_source_without_upload_times_is_rejected_before_uv_runs(copy: Path) -> None:
    spoil(
        copy / "pyproject.toml",
        "[tool.uv.sources]",
        '[tool.uv.sources]\ntorchvision = [{ index = "pytorch-cpu", extra = "cpu" }]',
    )
    done = subprocess.run([copy / "scripts" / "lock"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exclude-newer-package = { torch = false, torchvision = false }" in done.stderr


def test_only_packages_with_a_wheel_in_the_folder_are_locked_from_it(tmp_path: Path) -> None:
    wheel = tmp_path / "torchvision-0.28.0+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    place = lock.simple_index(tmp_path / "index", [wheel])
    assert wheel.name in (tmp_path / "index" / "torchvision" / "index.html").read_text()
    sources = 'torch = [{ index = "pytorch-cpu", extra = "cpu" }]\ntorchvision = [\n  { index = "pytorch-cpu" },\n]\n'
    text = lock.from_folder(sources, {"torchvision"}, place)
    assert text.startswith(
        'torch = [{ index = "pytorch-cpu", extra = "cpu" }]\ntorchvision = [\n  { index = "pytorch-cpu-folder" }'
    )
    assert f'name = "pytorch-cpu-folder"\nurl = "{place}"' in text


def test_pytorchs_index_provides_wheels_that_no_folder_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    requirements = "numpy==2.4.6 \\\n    --hash=sha256:11\ntorch==2.13.0+cpu ; a \\\n    --hash=sha256:{}\n"
    digest = hashlib.sha256(b"a wheel").hexdigest()
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    assert lock.missing_wheels(requirements.format("22")) == "torch==2.13.0+cpu ; a \\\n    --hash=sha256:22\n"
    assert lock.missing_wheels(requirements.format(digest)) == ""
