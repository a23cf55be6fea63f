"""File names that are valid on every common file system."""

from __future__ import annotations

import pytest

from trainer.base.errors import ManifestError
from trainer.data.file_names import check_paths, portable_fault, reason_to_leave_out


@pytest.mark.parametrize(
    "path",
    [
        *("a:b.txt", "x?", "*", "a|b", 'a"b', "<", "con", "a/aux.txt", "nul/b", "COM1.tar.gz", "lpt9", "CONIN$"),
        *("trailing.", "trailing ", "a./b", "a /b", "con .txt", "bell\x9b"),
    ],
)
def test_a_name_that_windows_does_not_allow_is_an_error(path: str) -> None:
    with pytest.raises(ManifestError, match="which Windows does not allow in file names") as caught:
        check_paths([path])
    assert repr(path) in caught.value.message
    assert caught.value.hint == "rename the file, then publish again"


@pytest.mark.parametrize(
    "path", ["console", "a.b/c.d", "com10", "auxiliary.txt", ".git/config", "ä ö", "-", "~x", "lpt"]
)
def test_other_names_are_portable(path: str) -> None:
    assert portable_fault(path) is None
    check_paths([path])


def test_many_such_names_are_one_error_with_their_number() -> None:
    with pytest.raises(ManifestError, match=r"\(and 998 more such names\)"):
        check_paths(sorted(f"{number:03}:x" for number in range(999)))


@pytest.mark.parametrize("names", [["a/\xe9", "a/e\u0301"], ["Cat/1", "cat/1"], ["a" * 256]])
def test_colliding_and_too_long_names_are_an_error(names: list[str]) -> None:
    with pytest.raises(ManifestError, match=r"one file on some file systems|longer than 255"):
        check_paths(sorted(names, key=str.encode))


def test_two_unicode_forms_are_shown_by_their_escapes() -> None:
    with pytest.raises(ManifestError, match=r"'e\\u0301' and '\\xe9'"):
        check_paths(["e\u0301", "\xe9"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "of the system") for name in (".DS_Store", "._1.png", "Thumbs.db", "desktop.ini", "__MACOSX")),
        *((name, "of the system") for name in (".ipynb_checkpoints", "__pycache__", ".nfs0000a1", "Icon\r")),
        *((name, "of the system") for name in ("@eaDir", "#recycle", "@Recycle", "#snapshot", "$RECYCLE.BIN")),
        *((name, "hidden") for name in (".git", ".keep", "a~", "~$a.docx")),
        *((name, "") for name in ("a.png", "_", "cache", "a.b", "ds_store", "nfs1", "#1.png", "recycle")),
    ],
)
def test_hidden_files_and_system_files_are_distinguished(name: str, reason: str) -> None:
    assert reason_to_leave_out(name, has_hidden=False) == reason
    assert reason_to_leave_out(name, has_hidden=True) == ("" if reason == "hidden" else reason)


def test_a_name_that_is_not_utf_8_is_shown_by_its_bytes() -> None:
    with pytest.raises(ManifestError) as caught:
        check_paths([b"a/caf\xe9.png".decode(errors="surrogateescape")])
    assert caught.value.message == r"file 'a/caf\xe9.png': its name is not UTF-8"
    assert "convmv -r -f latin1 -t utf8" in str(caught.value.hint)
