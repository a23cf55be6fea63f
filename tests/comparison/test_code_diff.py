"""The code of two runs, compared line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import SourceError
from trainer.comparison.compare_ingredients import LARGEST, code_diff
from trainer.runs.record import Imported
from trainer.source.capture import ARCHIVE, freeze

if TYPE_CHECKING:
    from pathlib import Path


def freeze_files(place: Path, files: dict[str, bytes], *, executable: str = "") -> tuple[Path, str]:
    """Freeze `files`; return the run folder and the digest of the source."""
    checkout, folder = place / "checkout", place / "runs" / "run"
    for name, data in files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(data)
        (checkout / name).chmod(0o755 if name == executable else 0o644)
    folder.mkdir(parents=True)
    return folder, freeze(checkout, folder).digest


def diff_files(place: Path, before: dict[str, bytes], after: dict[str, bytes], *, executable: str = "") -> list[str]:
    (a, one), (b, other) = freeze_files(place / "a", before), freeze_files(place / "b", after, executable=executable)
    return code_diff(a, b, digests=(one, other))[0]


def test_code_is_listed_before_tests_and_documents(tmp_path: Path) -> None:
    before = {"docs/a.md": b"a\n", "gone.py": b"1\n", "net.py": b"x = 1\ny = 2\n"}
    after = {"docs/a.md": b"b\n", "net.py": b"x = 1\ny = 3\n", "tests/t.py": b"2\n"}
    lines = diff_files(tmp_path, before, after)
    assert [line for line in lines if line.startswith(("---", "+++"))] == [
        "--- A/gone.py",
        "+++ /dev/null",
        "--- A/net.py",
        "+++ B/net.py",
        "--- A/docs/a.md",
        "+++ B/docs/a.md",
        "--- /dev/null",
        "+++ B/tests/t.py",
    ]
    assert {"-y = 2", "+y = 3", " x = 1"} < set(lines)
    assert lines[0] == "4 files: gone.py, net.py, docs/a.md, tests/t.py"


def test_binary_files_are_reported_as_different(tmp_path: Path) -> None:
    before = {"a.bin": b"\0", "b.txt": b"\xff", "c.txt": b"x" * (LARGEST + 1), "d": b"same"}
    lines = diff_files(tmp_path, before, {name: data + b"y" * (name != "d") for name, data in before.items()})
    assert lines[0] == "3 files: a.bin, b.txt, c.txt"
    assert ["not text, or too long" in line for line in lines] == [False, True, True, True]


def test_the_lock_is_reported_without_its_lines(tmp_path: Path) -> None:
    assert diff_files(tmp_path, {"uv.lock": b"a\n"}, {"uv.lock": b"b\n"}) == [
        "uv.lock: differs; the packages that were installed are compared as packages"
    ]


def test_a_file_that_became_executable_is_reported(tmp_path: Path) -> None:
    lines = diff_files(tmp_path, {"run.sh": b"x"}, {"run.sh": b"x"}, executable="run.sh")
    assert lines == ["run.sh: not executable in A, executable in B"]


def test_an_invalid_archive_is_rejected(tmp_path: Path) -> None:
    a, digest = freeze_files(tmp_path / "a", {"x.py": b"1"})
    b, other = freeze_files(tmp_path / "b", {"x.py": b"2"})
    (b / ARCHIVE).write_bytes((b / ARCHIVE).read_bytes()[:50])
    with pytest.raises(SourceError, match="is not a source bundle"):
        code_diff(a, b, digests=(digest, other))


BEFORE = {"net.py": b"x = 1\n", "README.md": b"a\n", "other.py": b"1\n"}


def diff_with_imports(place: Path, *changed: str, imported: list[str]) -> tuple[list[str], bool]:
    """Return the diff of two sources that differ in the files `changed`, for runs that imported the files `imported`."""
    (a, one), (b, other) = (
        freeze_files(place / name, files)
        for name, files in (("a", BEFORE), ("b", BEFORE | dict.fromkeys(changed, b"new\n")))
    )
    code = Imported(digest=digest_of_bytes(b""), files=imported)
    return code_diff(a, b, digests=(one, other), imported=(code, code))


def test_files_that_no_run_imported_are_listed_separately(tmp_path: Path) -> None:
    lines, ran = diff_with_imports(tmp_path, "README.md", "other.py", imported=["net.py"])
    assert (lines[0], ran) == ("differs only in files that neither run imported: 2 files: other.py, README.md", False)


def test_files_that_a_run_imported_come_first(tmp_path: Path) -> None:
    lines, ran = diff_with_imports(tmp_path, "README.md", "net.py", imported=["net.py"])
    assert (lines[:3], ran) == (
        ["imported: 1 file: net.py", "imported by neither run: 1 file: README.md", "--- A/net.py"],
        True,
    )


def test_without_the_imports_of_both_runs_imports_are_not_mentioned(tmp_path: Path) -> None:
    (a, one), (b, other) = (
        freeze_files(tmp_path / "a", BEFORE),
        freeze_files(tmp_path / "b", BEFORE | {"README.md": b"b\n"}),
    )
    known = Imported(digest=digest_of_bytes(b""), files=["net.py"])
    lines, ran = code_diff(a, b, digests=(one, other), imported=(known, None))
    assert (lines[0], ran) == ("--- A/README.md", True)
