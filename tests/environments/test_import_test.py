"""The import test of an image's build: which packages it imports, and its report of a failing import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.checkouts import LOCK
from trainer.environments import import_test

SCRIPT: Final = Path(import_test.__file__)
COMPILED: Final = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"


def install_distribution(place: Path, name: str, code: str, *, requires: str = "", module: str = "") -> None:
    info, module = place / f"{name}-1.dist-info", module or name
    info.mkdir(parents=True)
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}")
    (info / "WHEEL").write_text(COMPILED)
    (place / f"{module}.py").write_text(code)
    (info / "RECORD").write_text(f"{module}.py,,\n{name}-1.dist-info/METADATA,,\n")


def run_import_test(place: Path, *extras: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a build does, for the packages in `place` only, without a change of user: root owns the test's folders."""
    (place / "uv.lock").write_text(LOCK)
    program = (
        f"import os, runpy, sys; os.getuid = lambda: 1; sys.path.insert(0, {str(place)!r}); sys.argv = sys.argv[1:]"
    )
    command = f"{program}; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-I", "-S", "-B", "-c", command, str(SCRIPT), str(place / "uv.lock"), "cpu", *extras]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_every_package_of_the_extras_is_imported(tmp_path: Path) -> None:
    install_distribution(tmp_path, "torch", "")
    install_distribution(tmp_path, "server", "raise RuntimeError('not asked for')")
    done = run_import_test(tmp_path, "cpu")
    assert (done.returncode, done.stderr) == (0, "import test: 1 package can be imported\n")


def test_a_package_that_links_torch_is_imported_although_no_extra_lists_it(tmp_path: Path) -> None:
    install_distribution(tmp_path, "torch", "")
    install_distribution(
        tmp_path, "vision", "raise RuntimeError('operator vision::nms does not exist')", requires="torch (==2.13.0)"
    )
    install_distribution(tmp_path, "server", "import vision")
    done = run_import_test(tmp_path, "cpu", "store")
    assert done.returncode == 1
    assert "import test: vision 1: `import vision`: RuntimeError: operator vision::nms does not exist\n" in done.stderr
    assert "  -> it was built for another torch than 1: docs/how-to/environments.md, Add a dependency" in done.stderr


def test_a_missing_system_library_is_named_with_the_file_to_edit(tmp_path: Path) -> None:
    code = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    install_distribution(tmp_path, "server", code)
    done = run_import_test(tmp_path, "store")
    assert "name the Debian package that has libGL.so.1 in `packages` of environments/cpu.toml" in done.stderr


@pytest.mark.parametrize("code", ["raise SystemExit('no license')", "raise KeyError()", "import absent_module"])
def test_any_exception_of_an_import_fails_the_build(tmp_path: Path, code: str) -> None:
    install_distribution(tmp_path, "server", code)
    assert run_import_test(tmp_path, "store").returncode == 1


def test_a_library_that_crashes_python_is_named(tmp_path: Path) -> None:
    install_distribution(tmp_path, "server", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = run_import_test(tmp_path, "store")
    assert (done.returncode, done.stderr) == (9, "import test: server 1 ended Python by signal 9\n")


def test_examples_that_a_package_installs_are_not_run(tmp_path: Path) -> None:
    install_distribution(tmp_path, "server", "raise RuntimeError('an example')", module="example")
    assert run_import_test(tmp_path, "store").returncode == 0
