"""The files that a process runs from, compared with the installed files."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.environments import installed_files

WRITABLE = "22 1 0:20 / / rw,relatime - overlay overlay rw\n"
SEALED = "22 1 0:20 / / ro,relatime - overlay overlay rw\n23 22 0:21 / /tmp rw - tmpfs tmpfs rw\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an installation of one distribution with two files."""
    place = tmp_path / "site-packages"
    (place / "numpy").mkdir(parents=True)
    (place / "numpy-2.3.0.dist-info").mkdir()
    rows = []
    for name, body in {"numpy/__init__.py": b"x = 1\n", "numpy/core.so": b"\x7fELF"}.items():
        (place / name).write_bytes(body)
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(body)}")
    rows += ["numpy/__pycache__/x.pyc,,", "numpy-2.3.0.dist-info/RECORD,,"]
    (place / "numpy-2.3.0.dist-info" / "RECORD").write_text("\n".join(rows) + "\n")
    return place


def find_changes(root: Path, *, mounts: str = WRITABLE, more: tuple[str, ...] = ()) -> list[str]:
    (root.parent / "mounts").write_text(mounts)
    roots = [str(root.parent / "source"), *more, str(root)]
    return installed_files.differences(roots, source=str(root.parent / "source"), mounts=root.parent / "mounts")


def test_an_unchanged_installation_has_no_differences(root: Path) -> None:
    (root / "numpy" / "__pycache__").mkdir()
    (root / "numpy" / "__pycache__" / "core.cpython-311.pyc").write_bytes(b"")
    assert find_changes(root) == []


def test_a_file_of_another_size_is_named(root: Path) -> None:
    (root / "numpy" / "__init__.py").write_text("x = 2; evil()\n")
    assert find_changes(root) == ["distribution numpy: of another size: numpy/__init__.py"]


def test_a_missing_and_an_extra_file_are_named(root: Path) -> None:
    (root / "numpy" / "core.so").unlink()
    (root / "evil.pth").touch()
    missing, extra = find_changes(root)
    assert missing == "distribution numpy: missing: numpy/core.so"
    assert extra == f"files in {root} that belong to no distribution: evil.pth"


def test_an_extra_import_root_is_named(root: Path) -> None:
    (line,) = find_changes(root, more=("/somewhere/else",))
    assert line == "import root /somewhere/else is neither the run's source nor an installation"


def test_a_mount_over_an_installation_is_named(root: Path) -> None:
    mounts = SEALED + f"30 22 0:30 / {root}/numpy rw - ext4 /dev/x rw\n"
    assert find_changes(root, mounts=mounts)[0] == f"{root}/numpy is mounted over installed files"


def test_read_only_roots_are_not_read(root: Path) -> None:
    (root / "numpy" / "__init__.py").write_text("x = 2; evil()\n")
    assert find_changes(root, mounts=SEALED) == []


def test_digests_find_changes_of_equal_size(root: Path) -> None:
    assert installed_files.altered([str(root)]) == (2, [])
    (root / "numpy" / "__init__.py").write_text("x = 2\n")
    assert find_changes(root) == []
    assert installed_files.altered([str(root)]) == (1, ["distribution numpy: altered, by digest: numpy/__init__.py"])


def test_an_unowned_library_is_named(root: Path, tmp_path: Path) -> None:
    dpkg = tmp_path / "dpkg"
    dpkg.mkdir()
    (dpkg / "libc6.list").write_text("/lib/x86_64-linux-gnu/libc.so.6\n")
    mapped = {
        str(root / "numpy" / "core.so"): 1,
        "/usr/lib/x86_64-linux-gnu/libc.so.6": 1,
        "/usr/lib/x86_64-linux-gnu/libcuda.so.580.1": 1,
        "/somewhere/evil.so": 1,
    }
    (line,) = installed_files.foreign_libraries(mapped, [str(root)], dpkg=dpkg)
    assert line.startswith("library /somewhere/evil.so is mapped")


def test_the_module_runs_as_a_plain_script() -> None:
    script = str(Path(installed_files.__file__))
    done = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"format": "reprise.hashed/1", "right": 0, "altered": []}
