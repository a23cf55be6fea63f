"""An inspection: what the values of a dataset's samples are, split by split, and which samples cannot be read.

`trainer.training.readers.inspect` makes one by reading every sample once. This module defines the document, and decides what of it stops a
publication or a training of any task; what a task expects of its labels and targets, the task decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from trainer.base.document import Count, Document, parse_json
from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean
from trainer.data.reader import Images, Table, check_sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.declaration import Described

FORMAT: Final = "reprise.inspection/2"
"""Counted up when an inspection sees more than before: what is kept in a cache is then made again."""
SHOWN: Final = 5
"""Faults that are kept with their sentences."""
DISTINCT: Final = 1000
"""Different values of a whole number per sample that are counted one by one."""
LARGEST_WHOLE: Final = 2**64
"""Values of samples have up to 64 bits."""
_LISTED: Final = 3
SQUARED: Final = 1.8e19
"""The largest number whose square float32 holds."""


class Found(Document):
    """Some values: how many there are, and the sample that holds the first."""

    count: Count
    row: Count
    """The sample's number, in the reader's order."""
    name: str
    """The sample's name: its file, or `row 12`."""
    places: tuple[int, ...] = ()
    """Of samples with one axis: the first places on it that hold such values, for a table its columns."""


class Value(Found):
    """One value of a field that is a whole number per sample."""

    value: int


class Bound(Document):
    """The lowest or the highest finite value of a field."""

    value: int | float
    row: Count
    name: str
    place: int | None = None
    """Of samples with one axis: its place on it, for a table its column."""


class Shape(Found):
    """One shape that samples have."""

    shape: tuple[int, ...]


class FieldValues(Document):
    """What a field holds in one split."""

    dtype: str
    shapes: tuple[Shape, ...]
    """By the first sample that has each; at most 5."""
    low: Bound | None = None
    """None if no value is finite."""
    high: Bound | None = None
    nan: Found | None = None
    infinite: Found | None = None
    values: tuple[Value, ...] | None = None
    """By value, for a whole number per sample; None if there are more than `DISTINCT`."""

    @property
    def not_finite(self) -> Found | None:
        """The first of the values that are NaN or infinite."""
        return self.nan or self.infinite


class Fault(Document):
    """Why a sample cannot be read, or several at once."""

    name: str
    said: str
    hint: str | None = None
    samples: int | None = None
    """How many samples it is the fault of, if it is not one sample's own, as of a row group."""


class SplitValues(Document):
    """What one split holds."""

    samples: Count
    fields: dict[str, FieldValues] = {}
    """Empty if values were not read: text and whole files are bytes in any case."""
    unread: Count = 0
    """Samples that cannot be read."""
    faults: tuple[Fault, ...] = ()
    """Why the first of them cannot."""


class Inspection(Document):
    """The values of every split that was read."""

    format: Literal["reprise.inspection/2"] = FORMAT
    splits: dict[str, SplitValues]

    def field(self, name: str) -> dict[str, FieldValues]:
        """Give a field's values by split, for the splits that have it."""
        return {split: seen.fields[name] for split, seen in self.splits.items() if name in seen.fields}

    def not_finite(self, name: str) -> Iterator[tuple[str, Found, str]]:
        """Give each split in which a field holds NaN or infinities: the split, the values, and which of the two they are."""
        for split, values in self.field(name).items():
            if values.nan:
                yield split, values.nan, "NaN"
            if values.infinite:
                yield split, values.infinite, "infinite"

    def farthest(self, name: str) -> Bound | None:
        """Give the bound of a field, in any split, that is farthest from 0."""
        bounds = [bound for values in self.field(name).values() for bound in (values.low, values.high) if bound]
        return max(bounds, key=lambda bound: abs(bound.value), default=None)


def read_inspection(text: str | bytes, *, where: str) -> Inspection:
    """Read an inspection, whose values may be any that a sample holds. Raises `DocumentError`."""
    return parse_json(text, Inspection, where=where, whole=LARGEST_WHOLE)


def require_readable(seen: Inspection, *, dataset: str) -> None:
    """Raise `DatasetError` if samples cannot be read, naming the first of them, their splits, and how many more there are."""
    found: dict[tuple[str, str], list[tuple[str, Fault]]] = {}
    for split, values in seen.splits.items():
        for fault in values.faults:
            found.setdefault((fault.name, fault.said), []).append((split, fault))
    if not found:
        return
    shown = list(found.values())[:_LISTED]
    in_several = sum(len(each) - 1 for each in found.values() if each[0][1].samples is None)
    count = sum(values.unread for values in seen.splits.values()) - in_several
    rest = count - sum(sum(fault.samples or 0 for _, fault in each) or 1 for each in shown)
    listed = "; ".join(each[0][1].said + _in_splits([split for split, _ in each]) for each in shown)
    more = f"; and {rest:,} more" if rest > 0 else ""
    what = "1 sample" if count == 1 else f"{count:,} samples"
    raise DatasetError(f"{what} of {dataset} cannot be read: {listed}{more}", hint=shown[0][0][1].hint)


def _in_splits(splits: Sequence[str]) -> str:
    """Say in which splits, if the dataset has splits.

    >>> _in_splits(["train"]), _in_splits(["train", "val", "test"]), _in_splits([""])
    (' (split train)', ' (splits train, val and test)', '')
    """
    named = [split for split in splits if split]
    if len(named) < 2:  # noqa: PLR2004 - several
        return f" (split {named[0]})" if named else ""
    return f" (splits {', '.join(named[:-1])} and {named[-1]})"


def require_one_shape(seen: Inspection, field: str, *, dataset: str) -> None:
    """Raise `DatasetError` if samples differ in shape, with an example of the most and of the fewest."""
    shapes: dict[tuple[int, ...], tuple[int, str]] = {}
    for split, values in seen.field(field).items():
        for each in values.shapes:
            count, first = shapes.get(each.shape, (0, f"{each.name}{of_split(split)}"))
            shapes[each.shape] = (count + each.count, first)
    if len(shapes) < 2:  # noqa: PLR2004 - one shape
        return
    ordered = sorted(shapes.items(), key=lambda item: -item[1][0])
    (most, (many, _)), (fewest, (few, first)) = ordered[0], ordered[-1]
    example = first if few == 1 else f"the first is {first}"
    said = f"{field!r} is {list(most)} in {many:,} and {list(fewest)} in {few:,} ({example})"
    dtype = next(iter(seen.field(field).values())).dtype
    differ = f"--sample '{field}={dtype}[{most[0]},any,any]', and `--batch-size 1` or a reader of your own"
    size = "x".join(map(str, most[-2:]))
    hint = f"publish with --size {size} --resize crop (or pad, or stretch); if they are meant to differ: {differ}"
    raise DatasetError(f"samples of {dataset} differ in shape: {said}", hint=hint)


def require_publishable(seen: Inspection, described: Described) -> None:
    """Raise `DatasetError` for what is not published: samples that cannot be read, mixed shapes, NaN and infinities without consent."""
    require_readable(seen, dataset=described.name)
    if isinstance(described.reader, Images) and not _may_differ(described):
        require_one_shape(seen, "image", dataset=described.name)
    _require_declared(seen, described)
    names = {name: None for values in seen.splits.values() for name in values.fields}
    if unknown := next((name for name in described.allow_nan if names and name not in names), None):
        raise DatasetError(f"--allow-nan {unknown}: samples have no such field", hint=did_you_mean(unknown, names))
    for name in names:
        if name not in described.allow_nan and (said := told_not_finite(seen, name, described)):
            hint = f"fill or drop them before publishing; if they are meant, --allow-nan {name}"
            raise DatasetError(f"{described.name}: {said}", hint=hint)


def _require_declared(seen: Inspection, described: Described) -> None:
    """Raise `DatasetError` if a sample has another field, dtype or shape than its declaration says."""
    for values in seen.splits.values():
        known = {name: (found.dtype, found.shapes[0].shape) for name, found in values.fields.items() if found.shapes}
        for field, said in described.sample.items() if known else ():
            check_sample({field: said}, known, dataset=described.name)
            for each in values.fields[field].shapes:
                check_sample({field: said}, {field: (known[field][0], each.shape)}, dataset=described.name)


def told_not_finite(seen: Inspection, field: str, described: Described) -> str:
    """Say which values of a field are NaN or infinite: the column or field, the count, the splits, the first; empty if there are none."""
    found = list(seen.not_finite(field))
    if not found:
        return ""
    kinds = list(dict.fromkeys(kind for _, _, kind in found))
    counts: dict[str, list[str]] = {}
    for split, each, kind in found:
        counts.setdefault(split, []).append(f"{each.count:,} {kind}" if len(kinds) > 1 else f"{each.count:,}")
    total = ", ".join(f"{' and '.join(each)}{_in_split(split)}" for split, each in counts.items())
    first = found[0][1]
    owner = _owner(field, first.places, described)
    what = " and ".join("infinities" if kind == "infinite" else kind for kind in kinds)
    return f"{owner} {_hold(owner)} {what}: {total}; the first is in {first.name}"


def told_large(seen: Inspection, field: str, described: Described) -> str:
    """Say which number of a field lies farthest from 0, in which column, and where; empty if none is finite."""
    bound = seen.farthest(field)
    if bound is None:
        return ""
    owner = _owner(field, () if bound.place is None else (bound.place,), described)
    return f"{owner} {_hold(owner)} {float(bound.value):.4g} ({bound.name})"


def describe_overflows(seen: Inspection, described: Described) -> Iterator[str]:
    """Note each float field with a number whose square float32 cannot hold."""
    for name in {name: None for values in seen.splits.values() for name in values.fields}:
        bound = seen.farthest(name)
        if bound is not None and isinstance(bound.value, float) and abs(bound.value) > SQUARED:
            said = f"{described.name}: {told_large(seen, name, described)}, and its square overflows float32"
            yield f"{said}: divide it by a constant, if it is meant"


def _hold(owner: str) -> str:
    return "hold" if owner.startswith("columns") else "holds"


def _owner(field: str, places: Sequence[int], described: Described) -> str:
    """Name a field, and of a table's field the columns."""
    if not isinstance(described.reader, Table) or field not in described.reader.fields:
        return f"field {field!r}"
    names = described.reader.fields[field].names
    columns = [names[place] for place in places if place < len(names)] or list(names)
    few = ", ".join(map(repr, columns[:_LISTED])) + (" .." if len(columns) > _LISTED else "")
    return f"column{'s' if len(columns) > 1 else ''} {few} (field {field!r})"


def _may_differ(described: Described) -> bool:
    said = described.sample.get("image")
    return said is not None and "any" in said.shape


def of_split(split: str) -> str:
    """Say of which split something is, if the dataset has splits.

    >>> of_split("val"), of_split("")
    (' of split val', '')
    """
    return f" of split {split}" if split else ""


def _in_split(split: str) -> str:
    return f" in split {split}" if split else ""
