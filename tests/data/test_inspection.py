"""Values that prevent a publication or a run: the error states the split, the count and the first sample in one line."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.base.errors import DatasetError
from trainer.data.declaration import Draft
from trainer.data.inspection import (
    Fault,
    FieldValues,
    Inspection,
    Occurrences,
    SampleShape,
    SplitValues,
    describe_not_finite,
    require_one_shape,
    require_publishable,
    require_readable,
)

TABLE: dict[str, Any] = {
    "kind": "table",
    "files": ["t.parquet"],
    "fields": {"x": {"column": ["a", "b", "c"]}, "y": {"column": "price"}},
}
NAN = Occurrences(count=3, row=7, name="row 7 of t.parquet", places=(0, 2))


def make_inspection(**fields: FieldValues) -> Inspection:
    return Inspection(splits={"val": SplitValues(samples=9, fields=fields)})


def make_values(**fields: Any) -> FieldValues:
    return FieldValues(dtype="float32", shapes=(), **fields)


def make_draft(**fields: Any) -> Draft:
    return Draft.model_validate({"name": "d", "reader": TABLE, **fields})


def test_columns_with_nan_are_named() -> None:
    inspection = make_inspection(x=make_values(nan=NAN), y=make_values(infinite=NAN))
    assert describe_not_finite(inspection, "x", make_draft()) == (
        "columns 'a', 'c' (field 'x') hold NaN: 3 in split val; the first is in row 7 of t.parquet"
    )
    assert describe_not_finite(inspection, "y", make_draft()).startswith(
        "column 'price' (field 'y') holds infinities: 3 in split val;"
    )
    assert describe_not_finite(make_inspection(x=make_values()), "x", make_draft()) == ""


def test_consent_covers_nan_and_infinity_of_a_field() -> None:
    inspection = make_inspection(x=make_values(nan=NAN, infinite=NAN), y=make_values(nan=NAN))
    with pytest.raises(DatasetError, match="column 'price'"):
        require_publishable(inspection, make_draft(allow_nan=["x"]))
    require_publishable(inspection, make_draft(allow_nan=["x", "y"]))


def test_an_unchanged_declaration_does_not_mention_consent() -> None:
    assert "allow_nan" not in make_draft().model_dump(mode="json")
    assert make_draft(allow_nan=["x"]).model_dump(mode="json")["allow_nan"] == ["x"]


def test_unreadable_samples_are_named_and_counted() -> None:
    faults = tuple(Fault(name=str(at), message=f"{at}.png is damaged", hint=f"fix {at}") for at in range(5))
    inspection = Inspection(splits={"test": SplitValues(samples=9, unread=7, faults=faults)})
    with pytest.raises(DatasetError) as caught:
        require_readable(inspection, dataset="d")
    first = "7 samples of d cannot be read: 0.png is damaged (split test); 1.png is damaged (split test); 2.png"
    assert caught.value.message == f"{first} is damaged (split test); and 4 more"
    assert caught.value.hint == "fix 0"


def test_a_sample_in_two_splits_counts_once() -> None:
    error = Fault(name="0.png", message="0.png is damaged")
    both = dict.fromkeys(("train", "val"), SplitValues(samples=9, unread=1, faults=(error,)))
    with pytest.raises(
        DatasetError, match=r"^1 sample of d cannot be read: 0.png is damaged \(splits train and val\)$"
    ):
        require_readable(Inspection(splits=both), dataset="d")


def test_shapes_are_added_up_over_splits() -> None:
    shapes = {
        "train": (SampleShape(shape=(3, 4, 4), count=5, row=0, name="a"),),
        "val": (
            SampleShape(shape=(3, 4, 4), count=2, row=5, name="b"),
            SampleShape(shape=(3, 5, 4), count=1, row=6, name="c"),
        ),
    }
    splits = {
        name: SplitValues(samples=9, fields={"image": FieldValues(dtype="uint8", shapes=each)})
        for name, each in shapes.items()
    }
    with pytest.raises(DatasetError, match=r"is \[3, 4, 4\] in 7 and \[3, 5, 4\] in 1 \(c of split val\)"):
        require_one_shape(Inspection(splits=splits), "image", dataset="d")
    require_one_shape(Inspection(splits={"train": splits["train"]}), "image", dataset="d")
