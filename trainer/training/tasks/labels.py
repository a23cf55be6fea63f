"""Labels of a classification: whether each is one of the net's classes, in every split, and which classes no sample of train has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.data.inspection import in_split
from trainer.errors import DatasetError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.data.inspection import FieldValues
    from trainer.errors import RepriseError

IGNORED: Final = -100
"""The label that torch's cross entropy leaves out of its mean."""
_LISTED: Final = 5


def require_classes(labels: Mapping[str, FieldValues], *, classes: int) -> None:
    """Raise `DatasetError` for a label below 0, `SettingError` for one that has no score: the split, how many, the first."""
    begin_at_one = _begin_at_one(labels, classes)
    for split, values in labels.items():
        if values.dtype.startswith("float") or values.low is None or values.high is None:
            continue
        for bound, is_wrong in ((values.low, values.low.value < 0), (values.high, values.high.value >= classes)):
            if is_wrong:
                label = int(bound.value)
                said = (
                    _counted(values, label)
                    + in_split(split)
                    + f" (the first is in {_first(values, label) or bound.name})"
                )
                raise negative(said, label) if label < 0 else beyond(said, label, classes, begin_at_one=begin_at_one)


def negative(said: str, label: int) -> DatasetError:
    """Word a label below 0."""
    what = (
        "torch's loss leaves such samples out, and the metrics would count them as errors" if label == IGNORED else ""
    )
    hint = "drop those samples, or give them a class, and publish again"
    if what:
        hint = f"{what}: {hint}; a net that masks them overrides `check_values`"
    return DatasetError(f"{said}; a class is 0 or more", hint=hint)


def beyond(said: str, label: int, classes: int, *, begin_at_one: bool = False) -> RepriseError:
    """Word a label that has no score."""
    found = f"{said}; the net gives scores for {classes} classes, 0 to {classes - 1}"
    if begin_at_one:
        also = "" if label == classes else f", and set classes to {label}"
        return DatasetError(f"{found}; no label is 0, so labels begin at 1", hint=f"publish labels - 1{also}")
    return SettingError(found, hint=f"set classes to {label + 1} or more")


def not_trained_on(labels: Mapping[str, FieldValues], names: Sequence[str]) -> Iterator[str]:
    """Note the classes that no sample of train has."""
    train = labels.get("train")
    if train is None or train.values is None:
        return
    known = {each.value for each in train.values}
    lacking = [name if name == str(at) else f"{at} ({name})" for at, name in enumerate(names) if at not in known]
    if lacking:
        more = f" and {len(lacking) - _LISTED:,} more" if len(lacking) > _LISTED else ""
        yield f"no sample of train is of class {', '.join(lacking[:_LISTED])}{more}, of {len(names)} classes"


def _begin_at_one(labels: Mapping[str, FieldValues], classes: int) -> bool:
    """Whether no split has a label below 1 and some split has one that is too high."""
    lows = [values.low.value for values in labels.values() if values.low is not None]
    highs = [values.high.value for values in labels.values() if values.high is not None]
    return bool(lows) and min(lows) == 1 and max(highs) >= classes


def _counted(values: FieldValues, label: int) -> str:
    found = next((each.count for each in values.values or () if each.value == label), None)
    if found is None:
        return f"labels include {label}"
    return f"{found:,} label{' is' if found == 1 else 's are'} {label}"


def _first(values: FieldValues, label: int) -> str | None:
    return next((each.name for each in values.values or () if each.value == label), None)
