"""An inspection: a summary of the values of a dataset's samples in each split, and the samples that cannot be read.

`trainer.training.readers.inspect` creates it by reading every sample once. This module defines the document, and rejects values that must
not be published. Tasks check their labels and targets themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from trainer.base.document import Count, Document, parse_json
from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, did_you_mean
from trainer.data.reader import ImagesReader, TableReader, check_sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.declaration import Described

FORMAT: Final = "reprise.inspection/3"
"""The version is increased when the document changes, so that cached inspections are created again."""
SHOWN: Final = 5
"""Maximum number of faults that are recorded with their messages."""
DISTINCT: Final = 1000
"""Maximum number of distinct values that are counted in a field of one whole number per sample."""
LARGEST_WHOLE: Final = 2**64
"""The limit of whole numbers in the document; values of samples have up to 64 bits."""
_LISTED: Final = 3
SQUARED: Final = 1.8e19
"""The largest number whose square float32 can represent, approximately."""


class Occurrences(Document):
    """The number of values of some kind, and the first sample that contains such a value."""

    count: Count
    row: Count
    """The sample's number, in the reader's order."""
    name: str
    """The sample's name: its file, or `row 12`."""
    places: tuple[int, ...] = ()
    """The first indices of such values if samples have one axis; for a table, its columns."""


class Value(Occurrences):
    """One value of a field that is a whole number per sample."""

    value: int


class Bound(Document):
    """The lowest or the highest finite value of a field."""

    value: int | float
    row: Count
    name: str
    place: int | None = None
    """The index of the value if samples have one axis; for a table, its column."""


class SampleShape(Occurrences):
    """A shape of samples."""

    shape: tuple[int, ...]


class FieldValues(Document):
    """The values of a field in one split."""

    dtype: str
    shapes: tuple[SampleShape, ...]
    """Ordered by the first sample of each shape; at most 5."""
    low: Bound | None = None
    """`None` if no value is finite."""
    high: Bound | None = None
    nan: Occurrences | None = None
    infinite: Occurrences | None = None
    values: tuple[Value, ...] | None = None
    """Counts by value, if the field is a whole number per sample; `None` if there are more than `DISTINCT` values."""

    @property
    def not_finite(self) -> Occurrences | None:
        """The NaN or infinite values."""
        return self.nan or self.infinite


class Fault(Document):
    """The reason why one or several samples cannot be read."""

    name: str
    message: str
    hint: str | None = None
    samples: int | None = None
    """The number of samples, if the fault affects several samples, for example a row group."""


class SplitValues(Document):
    """The values of one split."""

    samples: Count
    fields: dict[str, FieldValues] = {}
    """Empty if values were not read, because text and whole files consist of valid bytes."""
    unread: Count = 0
    """Samples that cannot be read."""
    faults: tuple[Fault, ...] = ()
    """The first faults."""


class Inspection(Document):
    """The values of every inspected split."""

    format: Literal["reprise.inspection/3"] = FORMAT
    splits: dict[str, SplitValues]

    def field(self, name: str) -> dict[str, FieldValues]:
        """Return a field's values by split."""
        return {split: seen.fields[name] for split, seen in self.splits.items() if name in seen.fields}

    def not_finite(self, name: str) -> Iterator[tuple[str, Occurrences, str]]:
        """Yield the split, the occurrences and their kind ("NaN" or "infinite") for each split in which a field has such values."""
        for split, values in self.field(name).items():
            if values.nan:
                yield split, values.nan, "NaN"
            if values.infinite:
                yield split, values.infinite, "infinite"

    def farthest(self, name: str) -> Bound | None:
        """Return the bound of a field that is farthest from 0, over all splits; `None` if no value is finite."""
        bounds = [bound for values in self.field(name).values() for bound in (values.low, values.high) if bound]
        return max(bounds, key=lambda bound: abs(bound.value), default=None)


def read_inspection(text: str | bytes, *, where: str) -> Inspection:
    """Parse an inspection. Raise `DocumentError` if it is invalid."""
    return parse_json(text, Inspection, where=where, whole=LARGEST_WHOLE)


def require_readable(seen: Inspection, *, dataset: str) -> None:
    """Raise `DatasetError` if samples cannot be read; the message shows the first faults with their splits, and counts the rest."""
    faults: dict[tuple[str, str], list[tuple[str, Fault]]] = {}
    for split, values in seen.splits.items():
        for fault in values.faults:
            faults.setdefault((fault.name, fault.message), []).append((split, fault))
    if not faults:
        return
    shown = list(faults.values())[:_LISTED]
    in_several = sum(len(each) - 1 for each in faults.values() if each[0][1].samples is None)
    count = sum(values.unread for values in seen.splits.values()) - in_several
    rest = count - sum(sum(fault.samples or 0 for _, fault in each) or 1 for each in shown)
    listed = "; ".join(each[0][1].message + _in_splits([split for split, _ in each]) for each in shown)
    more = f"; and {rest:,} more" if rest > 0 else ""
    raise DatasetError(
        f"{counted(count, 'sample')} of {dataset} cannot be read: {listed}{more}", hint=shown[0][0][1].hint
    )


def _in_splits(splits: Sequence[str]) -> str:
    """Return the splits in parentheses; empty if the dataset has no splits.

    >>> _in_splits(["train"]), _in_splits(["train", "val", "test"]), _in_splits([""])
    (' (split train)', ' (splits train, val and test)', '')
    """
    named = [split for split in splits if split]
    if len(named) < 2:  # noqa: PLR2004 - fewer than two splits need no list
        return f" (split {named[0]})" if named else ""
    return f" (splits {', '.join(named[:-1])} and {named[-1]})"


def require_one_shape(seen: Inspection, field: str, *, dataset: str) -> None:
    """Raise `DatasetError` if samples differ in shape; the message states the most and the least common shape."""
    shapes: dict[tuple[int, ...], tuple[int, str]] = {}
    for split, values in seen.field(field).items():
        for each in values.shapes:
            count, first = shapes.get(each.shape, (0, f"{each.name}{of_split(split)}"))
            shapes[each.shape] = (count + each.count, first)
    if len(shapes) < 2:  # noqa: PLR2004 - a single shape cannot differ
        return
    ordered = sorted(shapes.items(), key=lambda item: -item[1][0])
    (most, (many, _)), (fewest, (few, first)) = ordered[0], ordered[-1]
    example = first if few == 1 else f"the first is {first}"
    shapes_found = f"{field!r} is {list(most)} in {many:,} and {list(fewest)} in {few:,} ({example})"
    dtype = next(iter(seen.field(field).values())).dtype
    differ = f"--sample '{field}={dtype}[{most[0]},any,any]', and `--batch-size 1` or a reader of your own"
    size = "x".join(map(str, most[-2:]))
    hint = f"publish with --size {size} --resize crop (or pad, or stretch); to keep different sizes: {differ}"
    raise DatasetError(f"samples of {dataset} differ in shape: {shapes_found}", hint=hint)


def require_publishable(seen: Inspection, described: Described) -> None:
    """Raise `DatasetError` if samples cannot be read, pictures differ in shape, values differ from their declaration or are not finite.

    NaN and infinities are accepted in the fields of `allow_nan`.
    """
    require_readable(seen, dataset=described.name)
    image = described.sample.get("image")
    if isinstance(described.reader, ImagesReader) and not (image and "any" in image.shape):
        require_one_shape(seen, "image", dataset=described.name)
    _require_declared(seen, described)
    names = {name: None for values in seen.splits.values() for name in values.fields}
    if unknown := next((name for name in described.allow_nan if names and name not in names), None):
        raise DatasetError(f"--allow-nan {unknown}: samples have no such field", hint=did_you_mean(unknown, names))
    for name in names:
        if name not in described.allow_nan and (problem := describe_not_finite(seen, name, described)):
            hint = f"fill or drop them before publishing; to keep them: --allow-nan {name}"
            raise DatasetError(f"{described.name}: {problem}", hint=hint)


def _require_declared(seen: Inspection, described: Described) -> None:
    """Raise `DatasetError` if a sample's fields, dtypes or shapes differ from its declaration."""
    for values in seen.splits.values():
        known = {name: (each.dtype, each.shapes[0].shape) for name, each in values.fields.items() if each.shapes}
        for field, declared in described.sample.items() if known else ():
            check_sample({field: declared}, known, dataset=described.name)
            for each in values.fields[field].shapes:
                check_sample({field: declared}, {field: (known[field][0], each.shape)}, dataset=described.name)


def describe_not_finite(seen: Inspection, field: str, described: Described) -> str:
    """Describe the NaN and infinite values of a field by column, count, split and first sample; an empty string if all are finite."""
    occurrences = list(seen.not_finite(field))
    if not occurrences:
        return ""
    kinds = list(dict.fromkeys(kind for _, _, kind in occurrences))
    counts: dict[str, list[str]] = {}
    for split, each, kind in occurrences:
        counts.setdefault(split, []).append(f"{each.count:,} {kind}" if len(kinds) > 1 else f"{each.count:,}")
    total = ", ".join(f"{' and '.join(each)}{f' in split {split}' if split else ''}" for split, each in counts.items())
    first = occurrences[0][1]
    owner = _owner(field, first.places, described)
    what = " and ".join("infinities" if kind == "infinite" else kind for kind in kinds)
    return f"{owner} {_hold(owner)} {what}: {total}; the first is in {first.name}"


def describe_farthest(seen: Inspection, field: str, described: Described) -> str:
    """Describe the value of a field that is farthest from 0, with its column and sample; an empty string if no value is finite."""
    bound = seen.farthest(field)
    if bound is None:
        return ""
    owner = _owner(field, () if bound.place is None else (bound.place,), described)
    return f"{owner} {_hold(owner)} {float(bound.value):.4g} ({bound.name})"


def describe_overflows(seen: Inspection, described: Described) -> Iterator[str]:
    """Yield a note on each float field with a value whose square overflows float32."""
    for name in {name: None for values in seen.splits.values() for name in values.fields}:
        bound = seen.farthest(name)
        if bound is not None and isinstance(bound.value, float) and abs(bound.value) > SQUARED:
            value = describe_farthest(seen, name, described)
            yield f"{described.name}: {value}, and its square overflows float32: if it is right, divide the field by a constant"


def _hold(owner: str) -> str:
    return "hold" if owner.startswith("columns") else "holds"


def _owner(field: str, places: Sequence[int], described: Described) -> str:
    """Return the name of a field, preceded by its columns if the dataset is a table."""
    if not isinstance(described.reader, TableReader) or field not in described.reader.fields:
        return f"field {field!r}"
    names = described.reader.fields[field].names
    columns = [names[place] for place in places if place < len(names)] or list(names)
    names_shown = ", ".join(map(repr, columns[:_LISTED])) + (" .." if len(columns) > _LISTED else "")
    return f"column{'s' if len(columns) > 1 else ''} {names_shown} (field {field!r})"


def of_split(split: str) -> str:
    """Return the name of a split as a suffix; empty if the dataset has no splits.

    >>> of_split("val"), of_split("")
    (' of split val', '')
    """
    return f" of split {split}" if split else ""
