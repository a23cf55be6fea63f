"""Checks of classification labels: whether each label of every split is a class, and which classes have no training sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError, SettingError
from trainer.data.inspection import of_split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.base.errors import RepriseError
    from trainer.data.inspection import FieldValues, Value

IGNORED: Final = -100
"""The label that torch's cross entropy leaves out of its mean."""
COMMONLY_IGNORED: Final = 255
"""The label that masks and uint8 datasets commonly use for samples to ignore."""
_LISTED: Final = 5


def require_classes(labels: Mapping[str, FieldValues], *, classes: int) -> None:
    """Raise `DatasetError` or `SettingError` for a label that is not a class; the error counts the samples and names the first."""
    whole = {split: values for split, values in labels.items() if not values.dtype.startswith("float")}
    bounds = [(values.low.value, values.high.value) for values in whole.values() if values.low and values.high]
    if not bounds:
        return
    lowest, highest = int(min(low for low, _ in bounds)), int(max(high for _, high in bounds))
    if lowest < 0:
        raise negative(_holders(whole, lowest), lowest)
    if highest < classes:
        return
    if highest == COMMONLY_IGNORED and classes < COMMONLY_IGNORED and (fault := _ignored(whole, classes)):
        raise fault
    values = [each.values for each in whole.values()]
    known = None if None in values else len({value.value for each in values for value in each or ()})
    raise beyond(_holders(whole, highest), highest, classes, begin_at_one=lowest == 1, known=known)


def negative(said: str, label: int) -> DatasetError:
    """Return the error for a label below 0."""
    hint = "drop those samples, or give them a class, and publish again"
    if label == IGNORED:
        what = "torch's loss leaves such samples out, and the metrics would count them as errors"
        hint = f"{what}: {hint}; a net that masks them overrides `check_values`"
    return DatasetError(f"{said}; a class is 0 or more", hint=hint)


def beyond(
    said: str, label: int, classes: int, *, begin_at_one: bool = False, known: int | None = None
) -> RepriseError:
    """Return the error for a label without a score; `known` is the number of different labels."""
    found = f"{said}; {_scores(classes)}"
    if begin_at_one:
        also = "" if label == classes else f", and set classes to {label}"
        return DatasetError(f"{found}; no label is 0, so labels begin at 1", hint=f"publish labels - 1{also}")
    if known is not None and known <= label // 2:
        numbered = "numpy.unique(labels, return_inverse=True)[1]"
        hint = f"publish numbers from 0 to {known - 1}: {numbered}; or set classes to {label + 1}"
        return DatasetError(f"{found}; there are {known} different labels", hint=hint)
    return SettingError(found, hint=f"set classes to {label + 1} or more")


def _ignored(labels: Mapping[str, FieldValues], classes: int) -> DatasetError | None:
    """Return the error for the label 255 among classes from 0 on, or None if 255 may be an ordinary class."""
    known = {each.value for values in labels.values() for each in values.values or ()}
    others = known - {COMMONLY_IGNORED}
    is_of_samples = not any(each.shape for values in labels.values() for each in values.shapes)
    if is_of_samples and not 0 < max(others, default=0) < COMMONLY_IGNORED - 1:  # 0 and 255 are black and white
        return None
    said = f"{_holders(labels, COMMONLY_IGNORED)}; {_scores(classes)}; 255 commonly means that a label is to be ignored"
    if not is_of_samples:
        return DatasetError(said, hint=_LEAVE_OUT)
    more = max(others) + 1
    also = f", and set classes to {more}" if more > classes else ""
    return DatasetError(f"{said}, and every other label is {max(others)} or less", hint=f"drop those samples{also}")


_LEAVE_OUT: Final = (
    "leave those places out of loss and metrics (docs/how-to/experiments.md, Labels to ignore); of masks of 0 and 255 publish "
    "masks // 255; or set classes to 256"
)


def _scores(classes: int) -> str:
    return f"the net gives scores for {classes} classes, 0 to {classes - 1}"


def not_trained_on(labels: Mapping[str, FieldValues], names: Sequence[str]) -> Iterator[str]:
    """Yield notes on the classes that no sample of train has."""
    train = labels.get("train")
    if train is None or train.values is None:
        return
    known = {each.value for each in train.values}
    lacking = [name if name == str(at) else f"{at} ({name})" for at, name in enumerate(names) if at not in known]
    if len(lacking) == 1:
        yield f"class {lacking[0]} has no sample in split train"
    elif lacking:
        more = f" and {len(lacking) - _LISTED:,} more" if len(lacking) > _LISTED else ""
        yield f"{len(lacking)} of {len(names)} classes have no sample in split train: {', '.join(lacking[:_LISTED])}{more}"


def _holders(labels: Mapping[str, FieldValues], label: int) -> str:
    """Return how many samples of which splits have a label, and the first of them.

    Samples are counted if each has one label; if a sample has several labels, as a mask does, only the splits are listed.
    """
    counts = {split: found for split, values in labels.items() if (found := _found(values, label))}
    if counts:
        total, first = sum(each.count for each in counts.values()), next(iter(counts.values())).name
        parts = [f"{each.count:,}{of_split(split)}" for split, each in counts.items()]
        parts[0] = parts[0].replace(" ", " sample " if next(iter(counts.values())).count == 1 else " samples ", 1)
        verb, where = ("has", first) if total == 1 else ("have", f"the first is in {first}")
        return f"{_joined(parts)} {verb} the label {label} ({where})"
    bounds = [(split, bound) for split, values in labels.items() for bound in (values.low, values.high) if bound]
    held = {split: bound.name for split, bound in bounds if bound.value == label}
    splits = _joined([of_split(split) for split in held])
    return f"labels{splits} include {label} (the first is in {next(iter(held.values()))})"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _found(values: FieldValues, label: int) -> Value | None:
    return next((each for each in values.values or () if each.value == label), None)
