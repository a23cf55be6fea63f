"""`reprise data ls`, `show` and `diff`. Only `--samples`, `--values` and `--key` download files.

`show --samples` draws a picture of samples. If torch or Pillow is not installed, the command runs in a container of the environment's
image and writes the picture to stdout.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from trainer.base.atomic_file import write_whole
from trainer.base.errors import RepriseError, StoreError, UsageError
from trainer.base.suggestions import counted, listed, short
from trainer.cli.data.caches import IN_IMAGE, UnreadableCache, container_cache
from trainer.cli.data.in_image import output_in_image
from trainer.cli.data.values import change_lines, changes_of, classes_of, overview_lines, overview_of
from trainer.cli.formatting import columns, padded
from trainer.cli.output import one_line
from trainer.cli.progress import readable, transfer_progress
from trainer.data.cache.folder import Cache
from trainer.data.check import CheckResult, count_samples
from trainer.data.declaration import readable_datasets
from trainer.data.fetch import fetch_dataset
from trainer.data.overview import Overview
from trainer.data.reader import ImagesReader, TableReader
from trainer.data.splits import describe_split
from trainer.data.versions import diff_datasets, list_versions

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from trainer.cli.data import DataContext
    from trainer.data.cache.version import CachedDataset
    from trainer.data.check_pictures import ClassCount
    from trainer.data.declaration import Dataset
    from trainer.data.reader import Reader


def ls(args: Namespace, context: DataContext) -> int:
    """List the declared datasets, and which caches have them."""
    containers = container_cache(context.root)
    rows = []
    datasets, reasons = readable_datasets(root=context.root)
    for name, reason in reasons.items():
        print(f"reprise: dataset {name} cannot be read: {reason}", file=sys.stderr)
    for dataset in datasets:
        cached: dict[str, bool] = {"cached": context.cache.has(dataset)}
        if isinstance(containers, Cache):
            cached["cached_for_containers"] = containers.has(dataset)
        rows.append((dataset, cached))
    if args.json:
        unreadable = [{"name": name, "unreadable": reason} for name, reason in reasons.items()]
        print(json.dumps([*({**dataset.model_dump(mode="json"), **cached} for dataset, cached in rows), *unreadable]))
        return 0
    _print_table(rows)
    if isinstance(containers, UnreadableCache):
        print(f"\ncontainers use a separate cache ({containers.reason}); to list it: {IN_IMAGE} data ls")
    return 0


def _print_table(rows: list[tuple[Dataset, dict[str, bool]]]) -> None:
    has_containers = any("cached_for_containers" in cached for _, cached in rows)
    table = [("NAME", "VERSION", "FILES", "SIZE", "CACHED", *(("IN CONTAINERS",) if has_containers else ()), "LICENSE")]
    for dataset, cached in rows:
        table.append(
            (
                dataset.name,
                str(dataset.version),
                f"{dataset.files:,}",
                readable(dataset.bytes),
                *("yes" if value else "no" for value in cached.values()),
                dataset.license,
            )
        )
    print("\n".join(columns(table)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _DatasetState:
    """A dataset's copies, samples, versions and values."""

    folder: Path | None
    containers: Cache | UnreadableCache | None
    in_containers: bool | None
    samples: CheckResult | str | None
    """The samples, why they cannot be counted, or `None` if no count is needed."""
    versions: list[int] | str
    """The versions in the store, or why they are unknown."""
    overview: Overview | str
    """The values, or why they were not read; empty for weights."""
    classes: tuple[ClassCount, ...]


def show(args: Namespace, context: DataContext) -> int:
    """Print a dataset's declaration, cached copies and versions, or draw its samples."""
    dataset = context.dataset(args.name)
    if args.samples:
        return draw_samples(args, dataset, context)
    overview = overview_of(args, dataset, context)
    cached = context.cache.find(dataset)
    containers = container_cache(context.root)
    samples = _count(dataset, cached)
    classes = samples.classes if isinstance(samples, CheckResult) else ()
    state = _DatasetState(
        folder=context.cache.place(dataset) if cached else None,
        containers=containers,
        in_containers=containers.has(dataset) if isinstance(containers, Cache) else None,
        samples=samples,
        versions=_versions(dataset.name, context),
        overview=overview,
        classes=classes or (classes_of(dataset, overview) if isinstance(overview, Overview) else ()),
    )
    if args.json:
        facts = {
            "cached": str(state.folder) if state.folder else None,
            "cached_for_containers": state.in_containers,
            "versions": state.versions if isinstance(state.versions, list) else None,
            "classes": [asdict(each) for each in state.classes],
            "overview": overview.model_dump(mode="json") if isinstance(overview, Overview) else None,
        }
        print(json.dumps({**dataset.model_dump(mode="json"), **facts}))
        return 0
    _print_declaration(dataset, state)
    _print_copies(dataset, state, context)
    _print_classes(dataset, state)
    if isinstance(overview, Overview):
        print("\n".join(overview_lines(dataset, overview)))
    elif overview:
        print(f"  values    {overview}")
    return 0


def _print_declaration(dataset: Dataset, state: _DatasetState) -> None:
    counts = state.samples.splits if isinstance(state.samples, CheckResult) else {}
    print(f"{dataset.title}: {counted(dataset.files, 'file')}, {readable(dataset.bytes)}")
    print(f"  license   {dataset.license}\n  source    {dataset.source}")
    for name, split in dataset.splits.items():
        exact = f"{counted(counts[name], 'sample')}: " if name in counts and not isinstance(split, tuple) else ""
        print(f"  {name:<9} {exact}{describe_split(split)}")
    print(f"  reader    {dataset.reader.kind} {_describe_reader(dataset.reader)}".rstrip())
    for name, kind in dataset.sample.items():
        print(f"  sample    {name}: {kind}")
    if dataset.allow_nan:
        print(f"  allow NaN {', '.join(dataset.allow_nan)}")


def _describe_reader(reader: Reader) -> str:
    """Return the options of a reader; for a table, its files and fields. The printed table of values lists the columns."""
    if isinstance(reader, TableReader):
        fields = (
            name if isinstance(each.column, str) else f"{name} [{len(each.names)}]"
            for name, each in reader.fields.items()
        )
        return f"{listed(reader.files)}: {listed(fields)}"
    options = reader.model_dump(exclude_defaults=True, exclude={"classes", "kind"})
    return json.dumps(options, default=str) if options else ""


def _print_copies(dataset: Dataset, state: _DatasetState, context: DataContext) -> None:
    print(f"  content   {dataset.content}\n  manifest  {dataset.manifest}\n  cached    {state.folder or 'no'}")
    if isinstance(state.containers, UnreadableCache):
        print(f"            in containers unknown: {state.containers.reason}")
    elif state.containers is not None:
        print(f"            in containers {'yes' if state.in_containers else 'no'}")
    if isinstance(state.versions, str):
        print(f"  versions  {state.versions}")
    else:
        print(f"  versions  {', '.join(map(str, state.versions)) or 'none'} in {context.open().label}")


def _print_classes(dataset: Dataset, state: _DatasetState) -> None:
    if not state.classes and isinstance(dataset.reader, ImagesReader) and dataset.reader.classes:
        names = dataset.reader.classes
        print(f"  classes   {len(names):,}: {listed(f'{number} {name}' for number, name in enumerate(names))}")
    if isinstance(state.samples, str):
        print(f"  samples   cannot be counted: {state.samples}")
    for line in class_table(state.classes):
        print(line)


def _count(dataset: Dataset, cached: CachedDataset | None) -> CheckResult | str | None:
    """Count the samples of a cached dataset, or return why they cannot be counted; `None` if its declaration states the counts."""
    has_rows = all(isinstance(split, tuple) for split in dataset.splits.values())
    if cached is None or (has_rows and not isinstance(dataset.reader, ImagesReader)):
        return None
    try:
        return count_samples(dataset, cached)
    except RepriseError as error:
        return error.message


def _versions(name: str, context: DataContext) -> list[int] | str:
    if not context.store:
        return "unknown: no store is configured"
    try:
        return list_versions(context.open(), name)
    except StoreError as fault:
        return f"unknown: {fault.message}"


def diff(args: Namespace, context: DataContext) -> int:
    """Print each file that differs, the totals, and the difference of the values."""
    before, after = context.dataset(args.before), context.dataset(args.after)
    changes = changes_of(args, before, after, context)
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    if args.json:
        print(f'{{"before": {json.dumps(before.title)}, "after": {json.dumps(after.title)}, "changes": [', end="")
    for change in diff_datasets(before, after, store=context.open()):
        if args.json and not args.stat:
            facts = {"path": change.path, "change": change.kind, "before": change.before, "after": change.after}
            print(f"{',' if files else ''}\n{json.dumps(facts)}", end="")
        elif not args.stat:
            sizes_text = " -> ".join(readable(size) for size in (change.before, change.after) if size is not None)
            print(f"{change.kind:8}  {change.path}  {sizes_text}")
        files[change.kind] += 1
        sizes[change.kind] += change.before or 0 if change.after is None else change.after
    if args.json:
        values = "null" if isinstance(changes, str) else changes.model_dump_json()
        print(f'], "files": {json.dumps(files)}, "bytes": {json.dumps(sizes)}, "values": {values}}}')
        return 0
    totals = (
        f"{files[kind]:,} {kind} ({readable(sizes[kind])})" for kind in ("added", "removed", "changed") if files[kind]
    )
    print(f"{before.title} -> {after.title}: {', '.join(totals) or 'the same files'}")
    if isinstance(changes, str):
        print(f"values {changes}" if changes else "", end="\n" if changes else "")
    else:
        print("\n".join(change_lines(changes)))
    return 0


def class_table(classes: Sequence[ClassCount]) -> list[str]:
    """Return the lines of the table of classes; empty if there are no classes."""
    if not classes:
        return []
    splits = [*classes[0].splits]
    rows = [("class", "name", *splits, "all")]
    rows += [
        (
            str(each.number),
            one_line(short(each.name)) or "(no name)",
            *(f"{each.splits[name]:,}" for name in splits),
            f"{each.samples:,}",
        )
        for each in classes[:_MOST_CLASSES]
    ]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "".join(f"  {padded(row[column], widths[column], right=column != _NAME)}" for column in range(len(row)))
        for row in rows
    ]
    omitted = len(classes) - _MOST_CLASSES
    return [*lines, f"  and {counted(omitted, 'more class')}: --json lists all"] if omitted > 0 else lines


_MOST_CLASSES: Final = 40
"""Maximum number of classes in the table; `--json` lists all."""
_NAME: Final = 1
"""The column of names, the only column that is aligned left."""


def draw_samples(args: Namespace, dataset: Dataset, context: DataContext) -> int:
    """Write the picture or the page to the file `--samples`, or the picture to stdout if the file is `-`; return the exit code."""
    if args.json:
        raise UsageError("--json has no effect with --samples", hint="remove --json or --samples")
    if args.samples != "-" and not args.samples.endswith((".png", ".html")):
        raise UsageError(
            f"--samples {args.samples}: expected a file that ends in .png or .html",
            hint="use - for a picture on stdout",
        )
    if not (folder := Path(args.samples).parent).is_dir():
        hint = f"mkdir -p {shlex.quote(str(folder))}"
        raise UsageError(f"--samples {args.samples}: {folder} is not a folder", hint=hint)
    page: Overview | None = None
    if args.samples.endswith(".html"):
        args.values = True
        overview = overview_of(args, dataset, context)
        page = overview if isinstance(overview, Overview) else Overview(samples={})
    picture = b""
    if page is None or isinstance(dataset.reader, ImagesReader):
        command = f"docker compose run --rm -T train data show {args.name} --samples - > {args.samples}"
        code, picture = picture_of_samples(dataset, context, name=args.name, command=command)
        if code:
            return code
    if args.samples == "-":
        sys.stdout.buffer.write(picture)
        sys.stdout.buffer.flush()
        return 0
    if page is None:
        write_whole(Path(args.samples), picture)
    else:
        from trainer.cli.data.samples_page import samples_page

        write_whole(Path(args.samples), samples_page(dataset, page, picture or None).encode())
    print(args.samples)
    return 0


def picture_of_samples(dataset: Dataset, context: DataContext, *, name: str, command: str) -> tuple[int, bytes]:
    """Draw samples in this process, or in a container of the environment's image; return an exit code and a PNG.

    Raise `MachineError`, with the hint `command`, if neither is possible.
    """
    if find_spec("torch") and find_spec("PIL"):
        from trainer.training.figures.picture import picture_of

        cached = fetch_dataset(dataset, cache=context.cache, open_store=context.open, progress=transfer_progress())
        return 0, picture_of(dataset, cached)
    words = ["data", "show", name, "--samples", "-"]
    return output_in_image(words, context, need="drawing samples needs torch and Pillow", hint=command)
