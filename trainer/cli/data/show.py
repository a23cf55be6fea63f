"""`reprise data ls`, `show` and `diff`: what is declared, where it is, what changed. Only a picture of samples fetches."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trainer.base.errors import RepriseError, StoreError
from trainer.base.suggestions import counted, listed
from trainer.cli.data.class_table import class_table
from trainer.cli.data.container_cache import Hidden, container_cache
from trainer.cli.data.sample_picture import draw_samples
from trainer.cli.progress import readable
from trainer.cli.run_page import columns
from trainer.data.cache.folder import Cache
from trainer.data.check import Checked, count_samples
from trainer.data.declaration import readable_datasets
from trainer.data.diff import diff_datasets
from trainer.data.publish import versions
from trainer.data.reader import Images
from trainer.data.splits import worded

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data.places import Places
    from trainer.data.cache.version import CachedDataset
    from trainer.data.declaration import Dataset


def ls(words: Namespace, places: Places) -> int:
    """List what is declared, and which caches have it."""
    theirs = container_cache(places.root)
    rows = []
    datasets, faults = readable_datasets(root=places.root)
    for name, fault in faults.items():
        print(f"reprise: dataset {name} cannot be read: {fault}", file=sys.stderr)
    for dataset in datasets:
        found: dict[str, Any] = {"cached": places.cache.has(dataset)}
        if not isinstance(theirs, Hidden | None):
            found["cached_for_containers"] = theirs.has(dataset)
        rows.append((dataset, found))
    if words.json:
        unreadable = [{"name": name, "unreadable": fault} for name, fault in faults.items()]
        print(json.dumps([*({**dataset.model_dump(mode="json"), **found} for dataset, found in rows), *unreadable]))
        return 0
    _print_table(rows)
    if isinstance(theirs, Hidden):
        print(
            f"\ncontainers have a cache of their own, {theirs.why}; it is seen by: docker compose run --rm train data ls"
        )
    return 0


def _print_table(rows: list[tuple[Dataset, dict[str, Any]]]) -> None:
    both = any("cached_for_containers" in found for _, found in rows)
    table = [("NAME", "VERSION", "FILES", "SIZE", "CACHED", *(("IN CONTAINERS",) if both else ()), "LICENSE")]
    for dataset, found in rows:
        cached = ("yes" if each else "no" for each in found.values())
        table.append(
            (
                dataset.name,
                str(dataset.version),
                f"{dataset.files:,}",
                readable(dataset.bytes),
                *cached,
                dataset.license,
            )
        )
    print("\n".join(columns(table)))


def show(words: Namespace, places: Places) -> int:
    """Print what is declared about one, where it is cached, which versions the store has; or a picture of its samples."""
    dataset = places.dataset(words.name)
    if words.samples:
        return draw_samples(words, dataset, places)
    cached = places.cache.find(dataset)
    theirs = container_cache(places.root)
    there_too = theirs.has(dataset) if isinstance(theirs, Cache) else None
    folder = places.cache.place(dataset) if cached else None
    checked = _counted(dataset, cached)
    counts = checked.splits if isinstance(checked, Checked) else {}
    classes = checked.classes if isinstance(checked, Checked) else ()
    there = _versions(dataset.name, places)
    if words.json:
        stored = there if isinstance(there, list) else None
        print(
            json.dumps(
                {
                    **dataset.model_dump(mode="json"),
                    "cached": str(folder) if folder else None,
                    "cached_for_containers": there_too,
                    "versions": stored,
                    "classes": [asdict(each) for each in classes],
                }
            )
        )
        return 0
    reader = dataset.reader.model_dump(exclude_defaults=True, exclude={"classes"})
    print(f"{dataset.title}: {counted(dataset.files, 'file')}, {readable(dataset.bytes)}")
    print(f"  license   {dataset.license}\n  source    {dataset.source}")
    for name, split in dataset.splits.items():
        exact = f"{counted(counts[name], 'sample')}: " if name in counts and not isinstance(split, tuple) else ""
        print(f"  {name:<9} {exact}{worded(split)}")
    print(
        f"  reader    {dataset.reader.kind} {json.dumps(reader, default=str) if reader.pop('kind', None) and reader else ''}".rstrip()
    )
    for name, kind in dataset.sample.items():
        print(f"  sample    {name}: {kind}")
    if dataset.allow_nan:
        print(f"  allow NaN {', '.join(dataset.allow_nan)}")
    print(f"  content   {dataset.content}\n  manifest  {dataset.manifest}\n  cached    {folder or 'no'}")
    if theirs is not None:
        print(f"            in containers {theirs.why if isinstance(theirs, Hidden) else 'yes' if there_too else 'no'}")
    print(
        f"  versions  {', '.join(map(str, there)) or 'none'} in {places.open().label}"
        if isinstance(there, list)
        else f"  versions  {there}"
    )
    if not classes and isinstance(dataset.reader, Images) and dataset.reader.classes:
        names = dataset.reader.classes
        print(f"  classes   {len(names):,}: {listed(f'{number} {name}' for number, name in enumerate(names))}")
    if isinstance(checked, str):
        print(f"  samples   cannot be counted: {checked}")
    for line in class_table(classes):
        print(line)
    return 0


def _counted(dataset: Dataset, cached: CachedDataset | None) -> Checked | str | None:
    """The samples of each split and class, if the files are here to be counted, or why they cannot be; declared rows need none."""
    has_rows = all(isinstance(split, tuple) for split in dataset.splits.values())
    if cached is None or (has_rows and not isinstance(dataset.reader, Images)):
        return None
    try:
        return count_samples(dataset, cached)
    except RepriseError as fault:
        return fault.message


def _versions(name: str, places: Places) -> list[int] | str:
    if not places.store:
        return "unknown: no store is named"
    try:
        return versions(places.open(), name)
    except StoreError as fault:
        return f"unknown: {fault.message}"


def diff(words: Namespace, places: Places) -> int:
    """Print each file that differs, as it is found, and the sums."""
    before, after = places.dataset(words.before), places.dataset(words.after)
    files: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    if words.json:
        print(f'{{"before": {json.dumps(before.title)}, "after": {json.dumps(after.title)}, "changes": [', end="")
    for change in diff_datasets(before, after, store=places.open()):
        if words.json:
            told = {"path": change.path, "change": change.kind, "before": change.before, "after": change.after}
            print(f"{',' if files else ''}\n{json.dumps(told)}", end="")
        elif not words.stat:
            sizes = " -> ".join(readable(size) for size in (change.before, change.after) if size is not None)
            print(f"{change.kind:8}  {change.path}  {sizes}")
        files[change.kind] += 1
        moved[change.kind] += change.before or 0 if change.after is None else change.after
    if words.json:
        print(f'], "files": {json.dumps(files)}, "bytes": {json.dumps(moved)}}}')
        return 0
    sums = (
        f"{files[kind]:,} {kind} ({readable(moved[kind])})" for kind in ("added", "removed", "changed") if files[kind]
    )
    print(f"{before.title} -> {after.title}: {', '.join(sums) or 'the same files'}")
    return 0
