"""Settings files: how they are found and layered, and the round trip of resolved settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import BaseModel, SecretStr

from trainer.base.errors import DocumentError, RepriseError, SettingError, UsageError
from trainer.settings.fields import LaunchSettings, Origin, settings_document
from trainer.settings.ledger import Ledger
from trainer.settings.origins import Origins, Resolved, parse_options, resolve, settings_names
from trainer.settings.settings_file import assignment, copy_names, find_settings_files, parse_settings, settings_text


class Block(BaseModel):
    units: int = 8
    name: str | None = None


class Settings(LaunchSettings):
    """A setting of each kind of type."""

    flag: bool | None = None
    count: int | None = 3
    rate: float = 0.1
    text: str = "a"
    text_or_none: str | None = "none"
    count_or_text: int | str = "5"
    choice: Literal["none", "Null", "a"] | None = "a"
    number: Literal[1, 2] | None = 1
    path: Path | None = Path("a")
    exact: Decimal = Decimal("0.1")
    day: date | None = None
    moment: datetime = datetime(2026, 1, 31, 8)  # noqa: DTZ001 - a setting's time may have no time zone
    sizes: list[int] = [8]
    gaps: list[int | None] = []
    names: Sequence[str] = []
    pair: tuple[float, float] = (0.5, 1.0)
    tags: set[str] = set()
    table: dict[str, float] = {}
    gappy: Mapping[str, str | None] = {}
    nested: dict[str, list[dict[str, int]]] = {}
    block: Block = Block()
    token: SecretStr | None = None


def resolve_files(*texts: str, words: Sequence[str] = ()) -> Resolved[Settings]:
    """Resolve settings files with these texts, named 0.toml, 1.toml and so on."""
    with TemporaryDirectory() as folder:
        files = tuple(Path(folder, f"{number}.toml") for number in range(len(texts)))
        for file, text in zip(files, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        return resolve(Settings, Origins(options=parse_options(words), environ={}, files=files))


TEXTS = some.text(alphabet=some.characters(codec="utf-8"), max_size=8)
NUMBERS = some.integers(-(2**53) + 1, 2**53 - 1)
FLOATS = some.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
VALUES: dict[str, Any] = {
    "flag": some.sampled_from([True, False, None]),
    "count": NUMBERS | some.none(),
    "rate": FLOATS,
    "text": TEXTS | some.sampled_from(["none", '"', "'''", "a\nb", "\r\n", "\\", "\x7f", "\u2028", "#", "\0"]),
    "text_or_none": TEXTS | some.none(),
    "count_or_text": NUMBERS | TEXTS | some.just("5"),
    "choice": some.sampled_from(["none", "Null", "a", None]),
    "number": some.sampled_from([1, 2, None]),
    "path": some.sampled_from([Path("a b/c"), Path("/x"), None]),
    "exact": some.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-9, max_value=9),
    "day": some.dates() | some.none(),
    "moment": some.datetimes(),
    "sizes": some.lists(NUMBERS, max_size=3),
    "gaps": some.lists(NUMBERS | some.none(), max_size=3),
    "names": some.lists(TEXTS, max_size=3),
    "pair": some.tuples(FLOATS, FLOATS),
    "tags": some.sets(TEXTS, max_size=3),
    "table": some.dictionaries(TEXTS, FLOATS, max_size=3),
    "gappy": some.dictionaries(TEXTS, TEXTS | some.none(), max_size=3),
    "nested": some.dictionaries(TEXTS, some.lists(some.dictionaries(TEXTS, NUMBERS, max_size=2), max_size=2)),
    "block": some.builds(Block, units=NUMBERS, name=TEXTS | some.none()),
    "threads": some.integers(1, 8) | some.none(),
}


@given(some.fixed_dictionaries({}, optional=VALUES))
def test_printed_settings_are_read_as_equal_settings(values: dict[str, Any]) -> None:
    settings = Settings(**values)
    text = settings_text(Resolved(settings=settings, origins=dict.fromkeys(VALUES, Origin.COMMAND_LINE)))
    reread = resolve_files(text)
    assert settings_document(reread.settings) == settings_document(settings)
    again = {name: reread.settings.value_of(name) for name in VALUES}
    assert again == {name: settings.value_of(name) for name in VALUES}
    assert [type(value) for value in again.values()] == [type(settings.value_of(name)) for name in VALUES]
    assert settings_text(reread).count("\n") == len(Settings.model_fields)


def test_each_printed_value_names_its_origin() -> None:
    lines = settings_text(resolve_files("rate = 2\n", words=["--count", "none"])).splitlines()
    assert 'determinism = "machine"  # default' in lines
    assert next(line for line in lines if line.startswith("rate")).endswith('/0.toml"')
    assert '"--count" = "none"  # command line' in lines


def test_a_secret_is_not_printed() -> None:
    text = settings_text(resolve_files('token = "hush"\n'))
    assert "hush" not in text
    assert "# token: a secret, which is not printed" in text


def test_a_null_is_written_as_the_setting_reads_it() -> None:
    assert '"--choice" = "null"' in settings_text(resolve_files('"--choice" = "NONE"\n'))
    assert resolve_files('"--choice" = "NONE"\n').settings.choice is None
    assert resolve_files('choice = "none"\n').settings.choice == "none"


def test_files_are_layered_setting_by_setting() -> None:
    found = resolve_files("rate = 1\ncount = 1\ntable = {a = 1}\n", "count = 2\ntable = {b = 2}\n")
    assert (found.settings.rate, found.settings.count, found.settings.table) == (1.0, 2, {"b": 2.0})
    assert {name: Path(file).name for name, file in found.files.items()} == {
        "rate": "0.toml",
        "count": "1.toml",
        "table": "1.toml",
    }
    assert Path(Ledger(found).entries()["count"].file or "").name == "1.toml"
    assert Ledger(found).entries()["flag"].file is None


def test_the_command_line_overrides_all_files() -> None:
    found = resolve_files("count = 1\n", "count = 2\n", words=["--count", "7"])
    assert (found.settings.count, found.files, found.origins["count"]) == (7, {}, Origin.COMMAND_LINE)


def test_an_error_names_the_file_that_has_it() -> None:
    with pytest.raises(SettingError, match=r"setting count, given in .*/0\.toml: expected an integer"):
        resolve_files("count = true\n", "rate = 1\n")
    with pytest.raises(SettingError, match=r"unknown setting rat, given in .*/1\.toml"):
        resolve_files("rate = 1\n", "rat = 1\n")


def test_a_file_may_give_an_unused_setting_its_default() -> None:
    """Otherwise the printed settings could not be used as a file, because no run uses all settings."""
    assert Ledger(resolve_files("count = 3\nrate = 0.5\n")).unbound() == ["rate"]
    assert Ledger(resolve_files("count = 3\n", words=["--count", "3"])).unbound() == ["count"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a-b = 1\na_b = 2\n", "a_b is given twice, with - and with _"),
        ('a = 1\n"--a" = "2"\n', "--a is given twice, with and without --"),
        ('"--a" = 1\n', '"--a" is written as an option, so its value is a string as on the command line; found 1'),
        ("a = 1\na = 2\n", "line 2"),
    ],
)
def test_a_setting_is_given_once_in_a_file(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_settings(text, where="settings file a.toml")
    assert message in caught.value.message
    assert caught.value.hint


def test_a_name_without_toml_is_a_group(tmp_path: Path) -> None:
    group, point = tmp_path / "settings/models/large.toml", tmp_path / "settings/models/v1.5.toml"
    group.parent.mkdir(parents=True)
    group.touch()
    point.touch()
    names = ["a/base.toml", "models/large", "models/v1.5", "./other", "other.cfg"]
    found = find_settings_files(names, root=tmp_path, here=tmp_path / "here")
    here = tmp_path / "here"
    assert found == (here / "a/base.toml", group, point, here / "other", here / "other.cfg")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("models/lage", "the groups are fast, models/large", "did you mean models/large?"),
        ("large", "settings/large.toml does not exist", "did you mean models/large?"),
        ("zzz", "the groups are fast, models/large", "name a group, or a file that ends in .toml"),
        ("mine", "settings/mine.toml does not exist", "for the file, write --settings mine.toml"),
        ("bare", "settings/bare.toml does not exist", "for the file, write --settings ./bare"),
    ],
)
def test_an_unknown_group_is_an_error_with_the_nearest(tmp_path: Path, name: str, message: str, hint: str) -> None:
    for path in ("settings/models/large.toml", "settings/fast.toml", "mine.toml", "bare"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    with pytest.raises(DocumentError) as caught:
        find_settings_files([name], root=tmp_path, here=tmp_path)
    assert message in caught.value.message
    assert caught.value.hint == hint


@pytest.mark.parametrize("names", [[None], [""], ["a.toml", "./a.toml"]])
def test_a_missing_name_and_a_repeated_file_are_errors(tmp_path: Path, names: list[str | None]) -> None:
    with pytest.raises(UsageError, match=r"needs a file|given twice"):
        find_settings_files(names, root=tmp_path, here=tmp_path)


def test_a_missing_file_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "base.toml").touch()
    for name, hint in (("gone.toml", "check the name"), ("bass.toml", f"did you mean {tmp_path / 'base.toml'}?")):
        with pytest.raises(RepriseError, match=rf"{name} does not exist") as caught:
            resolve(Settings, Origins(options={}, environ={}, files=(tmp_path / name,)))
        assert caught.value.hint == hint


def test_copies_keep_the_path_in_the_checkout(tmp_path: Path) -> None:
    files = [tmp_path / "c/settings/a.toml", tmp_path / "a.toml", tmp_path / "b/a.toml", tmp_path / "c/a.toml"]
    assert copy_names(files, checkout=tmp_path / "c") == {
        "settings/settings/a.toml": files[0],
        "settings/a.toml": files[1],
        "settings/3/a.toml": files[2],
        "settings/4/a.toml": files[3],
    }
    assert list(copy_names([tmp_path / "a\\b.toml"], checkout=tmp_path)) == ["settings/1.toml"]


def test_settings_alone_may_be_repeated() -> None:
    argv = ["--settings", "a.toml", "--seed=1", "--settings=b"]
    assert settings_names(argv) == ["a.toml", "b"]
    assert parse_options(argv)["seed"] == "1"
    with pytest.raises(UsageError, match="--seed is given twice"):
        parse_options([*argv, "--seed=2"])


def test_values_are_written_on_one_line() -> None:
    assert assignment("a", {"b c": [1.5, True, 'x"\n']}) == r'a = {"b c" = [1.5, true, "x\"\n"]}'
    assert assignment("a_b", [1, None]) == '"--a-b" = "[1, null]"'
