"""The file that `reprise new` writes equals the original except for name, comments and dataset."""

from __future__ import annotations

import ast
import codecs
from pathlib import Path

import pytest

from tests.checking import run_checks_on
from trainer.base.errors import DatasetError, ExperimentError, NotWritableError
from trainer.data.declaration import load_dataset
from trainer.training.check_result import CheckStatus
from trainer.training.new_experiment import check_name, dataset_settings, new_experiment, renamed_copy

ROOT = Path(__file__).parents[2]
NAMES = ("characters", "diabetes", "digits", "faces", "pairs", "masks")
PAGES = [ROOT / f"trainer/experiments/{name}.py" for name in NAMES]


def code_without_comments(text: str) -> str:
    """Return the code of an experiment without comments and docstring."""
    page = ast.parse(text)
    return ast.dump(ast.Module(body=page.body[1:], type_ignores=[]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_copy_trains_like_its_original(page: Path) -> None:
    text = page.read_text()
    copy = renamed_copy(text, name="my_idea", like=page.stem)
    assert code_without_comments(copy) == code_without_comments(text)
    assert copy.startswith(f'"""My idea: describe in one sentence what the net predicts. Copied from {page.stem}."""')
    assert copy.count("# ") > text.count("# ")
    assert max(map(len, copy.splitlines())) <= 140
    assert renamed_copy(copy, name="my_idea", like=page.stem) == copy


def test_another_dataset_sets_its_name_and_classes() -> None:
    text = (ROOT / "trainer/experiments/digits.py").read_text()
    values = dataset_settings(text, load_dataset("faces", root=ROOT), like="digits").values
    copy = renamed_copy(text, name="mine", like="digits", values=values)
    assert ('    dataset = "faces"\n' in copy, "    classes = 2\n" in copy, "1,437" in copy) == (True, True, False)
    assert "    learning_rate = 3e-3\n" in copy


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("like", "name"), [("digits", "faces"), ("faces", "digits"), ("pairs", "faces")])
def test_a_copy_for_another_dataset_needs_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, like: str, name: str
) -> None:
    dataset = load_dataset(name, root=ROOT)
    written = new_experiment(tmp_path / "mine.py", like=ROOT / f"trainer/experiments/{like}.py", dataset=dataset)
    shape = [*dataset.twin["image"].shape]
    assert (written.filled["input_shape"], written.changes) == (shape, [])
    findings = run_checks_on(tmp_path / "mine.py", tmp_path, monkeypatch, words=["--batch-size=16"])
    assert not [finding for finding in findings.values() if finding.status is CheckStatus.FAILED]


THEIRS = """
class Settings(ClassificationSettings):
    dataset = "digits"
    classes: int = (
        10  # of them
    )

class Net(Classifier):
    def forward(self, x): ...
"""


def test_values_are_replaced_in_place_and_inherited_settings_are_added() -> None:
    copy = renamed_copy(
        THEIRS, name="mine", like="theirs", values={"dataset": 'é"', "classes": 2, "input_field": "x"}
    ).splitlines()
    at = next(number for number, line in enumerate(copy) if line.startswith("    dataset"))
    assert copy[at : at + 5] == [
        '    dataset = "é\\""',
        '    input_field = "x"',
        "    classes: int = (",
        "        2  # of them",
        "    )",
    ]


def test_a_setting_without_a_known_value_is_a_line_to_change(tmp_path: Path) -> None:
    dataset = load_dataset("digits", root=ROOT).model_copy(update={"twin": {}})
    written = new_experiment(tmp_path / "mine.py", like=PAGES[2], dataset=dataset)
    text = (tmp_path / "mine.py").read_text().splitlines()
    numbers = {
        words: next(n for n, line in enumerate(text, 1) if line.strip().startswith(words))
        for words in ("classes =", "input_shape:", "def forward")
    }
    assert written.filled == {"dataset": "digits"}
    assert [change.partition(": ")[0] for change in written.changes] == [
        f"mine.py:{numbers[words]}" for words in ("input_shape:", "classes =", "def forward")
    ]


def test_nothing_is_written_for_a_dataset_that_cannot_fit(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no field can be the target_field of digits"):
        new_experiment(tmp_path / "mine.py", like=PAGES[2], dataset=load_dataset("topics", root=ROOT))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("my-idea", "for example my_idea"),
        ("Mine", "for example mine"),
        ("class", "for example class_net"),
        ("2d", "for example net_2d"),
        ("ключ", "for example my_idea"),
        ("", "for example my_idea"),
        ("a/b", "for example a_b"),
        (300 * "x", f"for example {63 * 'x'}"),
    ],
)
def test_a_name_that_python_cannot_import_is_rejected(name: str, hint: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_name(name)
    assert caught.value.hint == hint
    check_name(hint.removeprefix("for example "))


def test_a_name_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="'my-idea' cannot be an experiment's name"):
        new_experiment(tmp_path / "my-idea.py", like=PAGES[0])
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("hers")
    with pytest.raises(ExperimentError, match=r"mine\.py already exists"):
        new_experiment(tmp_path / "mine.py", like=PAGES[0])
    assert (tmp_path / "mine.py").read_text() == "hers"


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    """A file in place of the folder simulates a read-only checkout."""
    (tmp_path / "folder").touch()
    with pytest.raises((ExperimentError, NotWritableError)):
        new_experiment(tmp_path / "folder" / "mine.py", like=PAGES[0])


@pytest.mark.parametrize(("text", "line"), [("import os\nx = 1\n", "import os"), ("", "")])
def test_an_experiment_without_a_docstring_gets_one(text: str, line: str) -> None:
    copy = renamed_copy(text, name="mine", like="theirs").splitlines()
    assert copy[0].startswith('"""Mine: describe in one sentence')
    assert copy[1:2] == [line][: len(text)]


@pytest.mark.parametrize("body", [b"x = (\n", "x = 'é'".encode("latin-1"), "x = 1".encode("utf-16")])
def test_a_file_that_python_cannot_parse_cannot_be_copied(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "theirs.py").write_bytes(body)
    with pytest.raises(ExperimentError, match=r"theirs\.py is not a Python file that can be copied"):
        new_experiment(tmp_path / "mine.py", like=tmp_path / "theirs.py")


def test_an_experiment_with_a_byte_order_mark_can_be_copied(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_bytes(codecs.BOM_UTF8 + PAGES[2].read_bytes())
    new_experiment(tmp_path / "mine.py", like=tmp_path / "theirs.py")
    assert code_without_comments((tmp_path / "mine.py").read_text()) == code_without_comments(PAGES[2].read_text())


def test_an_experiment_of_another_encoding_is_copied_as_utf_8(tmp_path: Path) -> None:
    text = "# -*- coding: latin-1 -*-\n" + PAGES[2].read_text() + '\nNAME = "café"\n'
    (tmp_path / "theirs.py").write_bytes(text.encode("latin-1"))
    new_experiment(tmp_path / "mine.py", like=tmp_path / "theirs.py")
    copy = (tmp_path / "mine.py").read_text(encoding="utf-8")
    assert ("coding" in copy, 'NAME = "café"' in copy) == (False, True)
