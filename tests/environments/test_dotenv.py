"""The managed block of `.env`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DotenvError
from trainer.environments.dotenv import conflicting_names, read_block, user_values, write_block

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"REPRISE_UID": "1000", "REPRISE_CA_FILE": "/a path/with #$/ca.pem", "COMPOSE_PROFILES": ""}


def test_a_block_round_trips(tmp_path: Path) -> None:
    assert write_block(tmp_path / ".env", VALUES)
    block = read_block(tmp_path / ".env")
    assert block.values == VALUES
    assert block.exists
    assert not block.edited


def test_writing_equal_values_changes_nothing(tmp_path: Path) -> None:
    write_block(tmp_path / ".env", VALUES)
    assert not write_block(tmp_path / ".env", VALUES)


def test_the_users_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    write_block(path, VALUES)
    path.write_text(path.read_text() + "ALSO=2")
    write_block(path, {"REPRISE_UID": "4321"})
    assert path.read_text().startswith("MINE=1\n")
    assert path.read_text().endswith("ALSO=2")
    assert read_block(path).values == {"REPRISE_UID": "4321"}


def test_an_edit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_block(path, VALUES)
    path.write_text(path.read_text().replace("REPRISE_UID=1000", "REPRISE_UID=0"))
    assert read_block(path).edited


def test_a_name_inside_and_outside_the_block_is_reported(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_block(path, VALUES)
    path.write_text(path.read_text() + "REPRISE_UID=7\n")
    assert conflicting_names(path) == ["REPRISE_UID"]
    path.write_text(path.read_text().replace("REPRISE_UID=7", "REPRISE_UID=1000"))
    assert conflicting_names(path) == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=/a b", "/a b"),
        ("A=/a b  # the share", "/a b"),
        ("A='/a b' # the share", "/a b"),
        (r'A="/a \"b\" #1"', '/a "b" #1'),
        ("export A=/a#b", "/a#b"),
        ("  A = /a ", "/a"),
        ("A=", ""),
    ],
)
def test_the_users_lines_are_parsed_as_compose_does(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(f"# A=comment\n{line}\n")
    assert user_values(tmp_path / ".env") == {"A": value}


def test_a_block_without_its_end_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_block(path, VALUES)
    path.write_text(path.read_text().replace("# <<< reprise", ""))
    with pytest.raises(DotenvError, match="damaged"):
        read_block(path)


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    write_block(tmp_path / ".env", VALUES)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_a_value_with_a_line_break_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DotenvError, match="REPRISE_STORE"):
        write_block(tmp_path / ".env", {"REPRISE_STORE": "a\nb"})
    assert not (tmp_path / ".env").exists()


def test_without_a_file_there_is_no_block(tmp_path: Path) -> None:
    assert not read_block(tmp_path / ".env").exists
