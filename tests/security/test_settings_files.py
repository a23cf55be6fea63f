"""Invalid settings files of any size, depth and kind are rejected in bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer.base.errors import DocumentError, RepriseError
from trainer.cli import main
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.settings import TrainingSettings


def read(path: Path) -> None:
    resolve(TrainingSettings, Origins(options=parse_options([]), environ={}, files=(path,)))


FILES = {
    "50 MB": (b"x = 1\n" * 9_000_000, "bytes"),
    "300,000 keys": (b"".join(b"k%d=1\n" % number for number in range(100_000)), "keys; expected at most 1,000"),
    "arrays 5,000 deep": (b"a = " + b"[" * 5000 + b"]" * 5000, "nested brackets"),
    "a key of 20,000 parts": (b"a." * 20_000 + b"b = 1", "more than 64 parts"),
    "6,000 digits": (b"seed = 1" + b"0" * 6000, "digits"),
    "a hexadecimal number of 10,000 digits": (b"seed = 0x" + b"f" * 10_000, "more than 1024 bits"),
    "not a number": (b"learning_rate = nan", "learning_rate"),
    "infinite": (b"learning_rate = inf", "learning_rate"),
    "twice": (b"seed = 1\nseed = 2", "TOML"),
    "latin-1": ('name = "é"'.encode("latin-1"), "UTF-8"),
    "a tag of YAML": (b"seed: !!python/object/apply:os.system ['true']", "TOML"),
    "a pattern in a key": (b'"(a+)+$" = 1', "unknown setting"),
}


@pytest.mark.parametrize("case", FILES)
def test_an_invalid_settings_file_is_rejected_with_its_error(tmp_path: Path, case: str) -> None:
    body, message = FILES[case]
    (tmp_path / "s.toml").write_bytes(body)
    with pytest.raises(RepriseError) as error:
        read(tmp_path / "s.toml")
    assert error.value.code in {40, 41}
    assert message in f"{error.value.message} {error.value.hint}"


def test_a_settings_path_that_is_not_a_file_is_rejected_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero"), tmp_path, tmp_path / "none"):
        with pytest.raises(DocumentError):
            read(path)


@pytest.mark.parametrize("words", [["sweep", "digits", "--seed", "1,2"], ["train", "--exp", "digits"]])
def test_commands_reject_a_deeply_nested_settings_file(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "s.toml").write_bytes(b"a = " + b"[" * 5000)
    assert main([*words, "--settings", str(tmp_path / "s.toml")]) == 40
