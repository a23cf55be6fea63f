"""Check before publication that the reader, the splits and the sample of a draft fit the folder's files.

The check needs no torch, NumPy or Pillow: it reads the headers of arrays, lines of text, and file names. Columns and rows of tables are
checked if pyarrow is installed, tokens of text if `tokenizers` is installed.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, listed, nearest, short
from trainer.base.tensor_file import read_parts
from trainer.data.check_pictures import (
    ClassCount,
    check_pictures,
    count_classes,
    describe_empty_classes,
)
from trainer.data.declaration import types_of
from trainer.data.file_formats import HEAD, count_lines, footer_start, parse_head, read_footer
from trainer.data.file_names import hint_for_path, reason_to_leave_out
from trainer.data.files import FolderFiles
from trainer.data.format_guess import SPLIT_NAMES, guess_reader, split_options, table_command
from trainer.data.pictures import PictureFiles, check_listed, find_pictures, parse_labels
from trainer.data.reader import (
    ArraysReader,
    ImagesReader,
    LinesReader,
    RawFiles,
    TableReader,
    TextReader,
    Weights,
    check_sample,
    even_rows,
)
from trainer.data.splits import Layout, select
from trainer.data.splits import Listed as ListedSplit
from trainer.data.tables.column_values import column_texts
from trainer.data.token_ids import Tokenizer, blocks_of, has_library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trainer.data.declaration import Described, Draft
    from trainer.data.files import Files, SourceFolder
    from trainer.data.reader import Length, Tokens

_BLOCK: Final = 1 << 20
UNKNOWN: Final = "unknown"
TABLE_UNCHECKED: Final = (
    "columns and rows of its Parquet files were not checked (pyarrow is not installed); the first run checks them"
)
TOKENS_UNCHECKED: Final = (
    "its text was not tokenized (tokenizers is not installed); the first run tokenizes it, and checks the splits"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The number of samples, in total and in each split, and notes for the publisher."""

    samples: int
    splits: dict[str, int]
    notes: tuple[str, ...] = ()
    classes: tuple[ClassCount, ...] = ()
    """Counts of the classes of pictures."""
    unchecked: str = ""
    """The checks that were skipped because a library is not installed; empty if all checks ran."""
    file_numbers: dict[str, Sequence[int]] = field(default_factory=dict)
    """For each split, the numbers of its files in the sorted list of all files, if a sample is a file."""


def check_dataset(draft: Draft, source: SourceFolder, paths: Sequence[str]) -> CheckResult:
    """Check the files `paths` of a folder. Raise `DatasetError` if they do not fit the reader, the splits or the sample of the draft."""
    if not paths:
        raise DatasetError(
            f"{source.root} is empty; expected a folder with files", hint="publish the folder that contains the files"
        )
    files = FolderFiles(source.root, paths)
    known = set(paths) if draft.reader.needed else set()
    if missing := next((path for path in draft.reader.needed if path not in known), None):
        message = f"dataset {draft.name!r}: its reader needs {missing!r}, which is not in the folder"
        is_hidden = any(reason_to_leave_out(part, has_hidden=source.has_hidden) for part in missing.split("/"))
        # The nearest files with the same suffix, if any: a picture does not replace a missing table.
        suffix = missing[missing.rfind(".") :] if "." in missing else ""
        near = hint_for_path(missing, [path for path in paths if path.endswith(suffix)] or paths)
        hint = "--include-hidden publishes hidden files" if is_hidden else near
        raise DatasetError(message, hint=hint)
    _require_distinct(draft)
    if isinstance(draft.reader, Weights):
        _check_weights(draft, draft.reader, source)
        return CheckResult(samples=0, splits={}, notes=tuple(_undeclared(draft)))
    notes = [*_undeclared(draft), *_reader_or_split_advice(draft, source.root, paths), *_missing_splits(draft)]
    if isinstance(draft.reader, TableReader) and find_spec("pyarrow") is None:
        for file in draft.reader.files:
            footer_start(files.view(file), where=file)
        check_sample(draft.sample, draft.reader.sample_types, dataset=draft.name)
        return CheckResult(samples=0, splits={}, notes=tuple(notes), unchecked=TABLE_UNCHECKED)
    if isinstance(draft.reader, LinesReader | TextReader) and draft.reader.tokens and not has_library():
        Tokenizer(files, draft.reader.tokens)
        for file in draft.reader.files:
            count_lines(blocks_of(files, file), where=file)
        return CheckResult(samples=0, splits={}, notes=tuple(notes), unchecked=TOKENS_UNCHECKED)
    checker = _FileChecker(draft, files, is_draft=True)
    if isinstance(draft.reader, ImagesReader) and (table := checker.table(draft.reader)) is not None:
        where = str(draft.reader.labels)
        check_listed(parse_labels(table, where=where), paths, where=where)
    layout = checker.layout()
    notes += checker.notes
    if checker.pictures and isinstance(draft.reader, ImagesReader):
        notes += check_pictures(checker.pictures, paths, checker.table(draft.reader), declared=draft)
    chosen = _select_splits(draft, layout)
    classes = count_classes(checker.pictures, chosen) if checker.pictures else ()
    return CheckResult(
        samples=layout.count,
        splits={name: len(each) for name, each in chosen.items()},
        notes=(
            *notes,
            *describe_empty_classes(classes, dataset=draft.name),
            *(
                f"splits {one} and {other} have {counted(common, 'sample')} in common"
                for one, other in combinations(chosen, 2)
                if (common := _in_common(chosen[one], chosen[other]))
            ),
            *_unused(chosen, layout.count, draft.name),
        ),
        classes=classes,
        file_numbers=_file_numbers(layout, chosen, paths),
    )


def _check_weights(draft: Draft, reader: Weights, source: SourceFolder) -> None:
    """Check the header of a weights file.

    Raise `DatasetError` if the draft declares samples or the file has no tensors, `DocumentError` if the file has another format.
    """
    if draft.splits or draft.sample:
        message = f"dataset {draft.name} contains weights, which have no samples, but declares [{'splits' if draft.splits else 'sample'}]"
        raise DatasetError(
            message, hint=f"publish the weights under another name, or remove datasets/{draft.name}.toml"
        )
    with (source.root / reader.file).open("rb") as file:
        if not read_parts(file, source.root / reader.file)[0]:
            raise DatasetError(
                f"{source.root / reader.file} has no tensors", hint="publish a file with the weights of a net"
            )


def _require_distinct(draft: Draft) -> None:
    """Raise `DatasetError` if the reader or a split lists a file twice, because its samples would count twice."""
    lists = {f"split {name!r}": split.files for name, split in draft.splits.items() if isinstance(split, ListedSplit)}
    if isinstance(draft.reader, LinesReader | TextReader | TableReader):
        lists["its reader"] = draft.reader.files
    for owner, listed_files in lists.items():
        if repeated := next((file for file, count in Counter(listed_files).items() if count > 1), None):
            message = f"dataset {draft.name}: {owner} lists {short(repeated)!r} twice"
            raise DatasetError(message, hint="remove one of the lines")


def _file_numbers(layout: Layout, chosen: dict[str, Sequence[int]], paths: Sequence[str]) -> dict[str, Sequence[int]]:
    """Return the indices in `paths` of each split's files; the layout's files are a subset of `paths` in the same order."""
    if layout.ends is not None or not layout.files or len(chosen) < 2:  # noqa: PLR2004 - only two or more splits can be compared
        return {}
    indexed = iter(enumerate(paths))
    numbers = array("q", (next(number for number, path in indexed if path == file) for file in layout.files))
    return {name: array("q", (numbers[index] for index in rows)) for name, rows in chosen.items()}


def count_samples(dataset: Described, files: Files) -> CheckResult:
    """Count the samples of a cached version, in total and in each split.

    Raise `DatasetError` if its files do not fit its reader or its splits.
    """
    checker = _FileChecker(dataset, files)
    layout = checker.layout()
    chosen = _select_splits(dataset, layout)
    return CheckResult(
        samples=layout.count,
        splits={name: len(each) for name, each in chosen.items()},
        classes=count_classes(checker.pictures, chosen) if checker.pictures else (),
    )


def _select_splits(dataset: Described, layout: Layout) -> dict[str, Sequence[int]]:
    return {name: select(name, dataset.splits, layout, dataset=dataset.name) for name in dataset.splits}


def _undeclared(draft: Draft) -> list[str]:
    missing = [key for key in ("license", "source") if getattr(draft, key) == UNKNOWN]
    if not missing:
        return []
    keys, options = " and ".join(f"no {key}" for key in missing), " ".join(f"--{key} TEXT" for key in missing)
    return [f"{draft.name}: {keys} declared, so other users do not know how they may use the dataset; add {options}"]


def _reader_or_split_advice(draft: Draft, root: Path, paths: Sequence[str]) -> list[str]:
    """Return notes that suggest options if no split is declared."""
    if draft.splits:
        return []
    guess = guess_reader(paths) if isinstance(draft.reader, RawFiles) else None
    if guess:
        description, options = guess
        note = f"{draft.name}: {description}, but no reader is declared, so a sample is the bytes of a file"
        if not options:
            return [f"{note}; publish the table itself: {table_command(draft.name, root, paths)}"]
        return [f"{note}; add {options} {split_options(paths)}"]
    note = f"{draft.name}: no split is declared, so nothing can be trained on it"
    return [f"{note}; declare the splits: {split_options(paths)}"]


def _missing_splits(draft: Draft) -> list[str]:
    """Return a note on missing splits that training needs, and on declared splits with similar names."""
    missing = [name for name in SPLIT_NAMES if name not in draft.splits]
    if not draft.splits or not missing:
        return []
    meant: dict[str, str] = {}
    for name in draft.splits:
        if name not in SPLIT_NAMES:
            free = [split for split in missing if split not in meant.values()]
            near = next((split for split in free if name.lower() in SPLIT_NAMES[split]), "")
            meant[name] = near or next(iter(nearest(name.lower(), free, most=1)), "")
    suggestions = " and ".join(f"{near} for {short(name)}" for name, near in meant.items() if near)
    others = f"; it has {listed(meant)}" if meant else ""
    advice = f"; did you mean {suggestions}?" if suggestions else ""
    return [
        f"{draft.name}: training needs the splits train, val and test; missing: {', '.join(missing)}{others}{advice}"
    ]


def _unused(chosen: dict[str, Sequence[int]], count: int, dataset: str) -> list[str]:
    """Return a note on samples that are in no split, if there are splits."""
    if not chosen or (unused := count - _count_union(list(chosen.values()))) <= 0:
        return []
    are = "is" if unused == 1 else "are"
    return [f"{dataset}: {counted(unused, 'sample')} of {count:,} {are} in no split"]


def _count_union(splits: list[Sequence[int]]) -> int:
    """Count the samples that are in at least one split; ranges are not expanded."""
    if not all(isinstance(each, range) for each in splits):
        return len({index for each in splits for index in each})
    total = end = 0
    for first, last in sorted((each[0], each[-1] + 1) for each in splits):
        total, end = total + max(0, last - max(first, end)), max(end, last)
    return total


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the samples that are in both splits; ranges are not expanded."""
    if isinstance(one, range) and isinstance(other, range):
        return max(0, min(one.stop, other.stop) - max(one.start, other.start))
    smaller, larger = sorted((one, other), key=len)
    known = set(smaller)
    return sum(index in known for index in larger)


@dataclass(slots=True)
class _FileChecker:
    draft: Described
    files: Files
    pictures: PictureFiles | None = None
    """The pictures and their classes; set by `layout`."""
    notes: list[str] = field(default_factory=list)
    """Notes for the publisher; set by `layout`."""
    is_draft: bool = False
    """Whether all checks run, including checks that do not affect the layout."""

    def layout(self) -> Layout:
        """Check the files, and return the positions of the reader's samples in them."""
        match self.draft.reader:
            case ArraysReader(fields=fields):
                return self._arrays(fields)
            case TableReader() as table:
                return self._table(table)
            case ImagesReader() as images:
                self.pictures = find_pictures(images, self.files.paths, self.table(images), declared=self.draft)
                return Layout(count=len(self.pictures.files), files=self.pictures.files)
            case LinesReader() | TextReader() as text:
                self._check_sample({name: (typed.dtype, typed.shape) for name, typed in types_of(text).items()})
                return _stacked(text.files, self._counter(text))
            case _:
                return Layout(count=len(self.files.paths), files=self.files.paths)

    def _check_sample(self, fields: Mapping[str, tuple[str, tuple[Length, ...]]]) -> None:
        check_sample(self.draft.sample, fields, dataset=self.draft.name)

    def _arrays(self, fields: dict[str, str]) -> Layout:
        heads = {}
        for name, file in fields.items():
            view = self.files.view(file)
            heads[name] = parse_head(view[:HEAD], size=len(view), where=file)
        self._check_sample({name: (head.dtype, head.shape[1:]) for name, head in heads.items()})
        return Layout(count=even_rows({name: head.rows for name, head in heads.items()}, dataset=self.draft.name))

    def _table(self, table: TableReader) -> Layout:
        footers = {file: read_footer(self.files.view(file), where=file) for file in table.files}
        for file, footer in footers.items():
            for column in table.fields.values():
                footer.require(column.names, where=file)
        self._check_sample(table.sample_types)
        layout = _stacked(table.files, lambda file: footers[file].rows)
        return replace(layout, column=partial(column_texts, files=self.files, paths=table.files))

    def table(self, images: ImagesReader) -> bytes | None:
        """Return the bytes of the label table; `None` if none is declared."""
        return None if images.labels is None else bytes(self.files.read(images.labels))

    def _counter(self, text: LinesReader | TextReader) -> Callable[[str], int]:
        """Return a function that counts the samples of a file; tokens are counted before it is returned."""
        counts: dict[str, int] = {}
        if text.tokens and (self.is_draft or isinstance(text, TextReader)):
            counts = dict(zip(text.files, self._tokenized(text.tokens, text.files), strict=True))
        if isinstance(text, LinesReader):
            return self._lines
        return lambda file: text.count(counts[file]) if text.tokens else self._windows(text, file)

    def _tokenized(self, tokens: Tokens, files: Sequence[str]) -> list[int]:
        """Tokenize files, and return the number of tokens of each file."""
        tokenizer = Tokenizer(self.files, tokens)
        found = tokenizer.tokenize(self.files, files)
        self.notes.append(f"{self.draft.name}: {tokenizer.describe(found)}")
        return [len(each.ids) for each in found]

    def _lines(self, file: str) -> int:
        view = self.files.view(file)
        return count_lines((bytes(view[at : at + _BLOCK]) for at in range(0, len(view), _BLOCK)), where=file)

    def _windows(self, text: TextReader, file: str) -> int:
        self._lines(file)
        return text.count(len(self.files.view(file)))


def _stacked(files: Sequence[str], count: Callable[[str], int]) -> Layout:
    ends = list(accumulate(map(count, files)))
    return Layout(count=ends[-1], files=files, ends=ends)
