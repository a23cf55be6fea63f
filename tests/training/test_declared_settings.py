"""Settings from an experiment's text: which types and values are certain, and which texts have no sketch."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from trainer.settings.fields import roles
from trainer.training.declared_settings import Sketch, sketched, untyped

EXPERIMENTS = sorted(Path(__file__).parents[2].glob("trainer/experiments/[!_]*.py"))
HEAD = """
from pydantic import PositiveInt
from trainer.training.tasks.classification import ClassificationSettings as Base
"""


def sketch_of(body: str, *, after: str = "") -> Sketch | None:
    return sketched(f"{HEAD}class Settings(Base):\n    {body}\n{after}")


@pytest.mark.torch
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_sketch_of_each_experiment_is_its_settings(file: Path) -> None:
    from trainer.training.experiment import load_experiment

    real = load_experiment(file.stem, file, root=file.parents[2]).settings
    sketch = sketched(file.read_text())
    assert sketch is not None
    assert roles(sketch.settings) == roles(real)
    for name, info in real.__pydantic_fields__.items():
        mine = sketch.settings.__pydantic_fields__[name]
        assert (mine.annotation, mine.default, mine.description) == (info.annotation, info.default, info.description)


def test_a_default_that_must_be_computed_is_unknown() -> None:
    sketch = sketch_of('dataset = "dig" + "its"\n    classes = 10\n    learning_rate = 10 ** -3')
    assert sketch is not None
    assert sketch.unknown_defaults == {"dataset", "learning_rate"}
    assert sketch.settings(learning_rate=0.5).value_of("learning_rate") == 0.5
    with pytest.raises(ValidationError):
        sketch.settings(learning_rate=-1)


def test_dates_and_paths_are_recognized_types() -> None:
    lines = "from datetime import date\nfrom pathlib import Path\n"
    sketch = sketched(
        f"{lines}{HEAD}class Settings(Base):\n    day: date = date(2026, 1, 31)\n    place: Path | None = None\n"
    )
    assert sketch is not None
    assert {"day", "place"} <= sketch.known
    assert sketch.unknown_defaults == {"day"}


def test_an_unrecognized_type_accepts_any_value() -> None:
    sketch = sketch_of(
        'dataset = "digits"\n    classes = 2\n    kernel: Kernel = "small"\n    width: PositiveInt | None = None'
    )
    assert sketch is not None
    assert sketch.settings.model_validate({"kernel": object()}).value_of("kernel")
    with pytest.raises(ValidationError):
        sketch.settings.model_validate({"width": 0})


def test_choices_and_bounds_are_read() -> None:
    body = 'classes = 2\n    dataset = "digits"\n    mode: Literal["a", "b"] = "a"\n    drop: Annotated[float, Field(lt=1)] = 0.5'
    sketch = sketched(
        f"from typing import Annotated, Literal\nfrom pydantic import Field\n{HEAD}class Settings(Base):\n    {body}"
    )
    assert sketch is not None
    for wrong in ({"mode": "c"}, {"drop": 1}):
        with pytest.raises(ValidationError):
            sketch.settings.model_validate(wrong)


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("model_config = {}", ""),
        ("@field_validator('classes')\n    def two(cls, v): return 2", ""),
        ("if True:\n        classes = 2", ""),
        ("surprise = 2", ""),
        ("classes = 2", "Settings = 3"),
        ("classes = 2", "Settings.classes = 3"),
        ("classes = 2", "if True:\n    from elsewhere import Settings"),
        ("threads = 2", ""),
    ],
)
def test_unrecognized_forms_have_no_sketch(body: str, after: str) -> None:
    assert sketch_of(body, after=after) is None


@pytest.mark.parametrize("text", ["class Settings: pass", "def broken(", "from other import Settings", ""])
def test_a_class_that_is_not_a_settings_class_has_no_sketch(text: str) -> None:
    assert sketched(text) is None


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("dropout = 0.1", "dropout"),
        ("dropout: float = 0.1", None),
        ("classes = 2", None),
        ("_hidden = 2", None),
        ("width = wide()", None),  # it may be a property: the value is known only in a run
    ],
)
def test_a_setting_without_a_type_is_found_if_certain(body: str, found: str | None) -> None:
    setting = untyped(f"{HEAD}class Settings(Base):\n    {body}\n")
    assert (setting and (setting.name, setting.line)) == (found and (found, 5))


def test_custom_steps_may_read_other_fields() -> None:
    plain = sketch_of("classes = 2", after="class Net:\n    def forward(self, x): return x")
    own = sketch_of("classes = 2", after="class Net:\n    def training_step(self, batch, index): return 0")
    assert plain is not None
    assert own is not None
    assert (plain.reads_fields, own.reads_fields) == (True, False)


@pytest.mark.parametrize(
    ("line", "found"),
    [('input_fields = ("x", "z")', True), ('input_fields: tuple[str, ...] = ("x",)', True), ("pass", False)],
)
def test_a_net_that_names_its_input_fields_is_found(line: str, *, found: bool) -> None:
    sketch = sketch_of("classes = 2", after=f"class Net:\n    {line}")
    assert sketch is not None
    assert sketch.has_input_fields is found


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("list[int]", [1], ["a"]),
        ("Sequence[int]", [1], ["a"]),
        ("tuple[int, ...]", [1, 2], ["a"]),
        ("tuple[float, float]", [1, 2], [1]),
        ("dict[str, list[int]]", {"a": [1]}, {"a": 1}),
        ("Optional[PositiveInt]", None, 0),
        ("list[Literal[1, 2]]", [2], [3]),
    ],
)
def test_element_types_of_lists_and_tables_are_read(kind: str, right: object, wrong: object) -> None:
    head = "from collections.abc import Sequence\nfrom typing import Literal, Optional\n"
    sketch = sketched(f"{head}{HEAD}class Settings(Base):\n    dataset = 'd'\n    classes = 2\n    x: {kind} = None\n")
    assert sketch is not None
    assert "x" in sketch.known
    sketch.settings.model_validate({"x": right})
    with pytest.raises(ValidationError):
        sketch.settings.model_validate({"x": wrong})


def test_a_list_of_an_unrecognized_type_accepts_any_value() -> None:
    sketch = sketch_of("dataset = 'd'\n    classes = 2\n    x: list[Kernel] = []")
    assert sketch is not None
    assert "x" not in sketch.known
