"""`reprise data publish`, `publish-samples` and `push`."""

from __future__ import annotations

import json
import os
import re
import tempfile
from argparse import ArgumentTypeError
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.atomic_file import write_whole
from trainer.base.document import typed
from trainer.base.errors import DatasetError, MachineError, UsageError
from trainer.base.suggestions import counted, short
from trainer.cli.configuration import two_stores
from trainer.cli.data.draft_options import add_draft_options
from trainer.cli.data.inspect import inspect_draft
from trainer.cli.data.publish_options import (
    parse_distinct,
    parse_pair,
    parse_reader,
    parse_split,
)
from trainer.cli.data.publish_table import (
    DEFAULT_SPLITS,
    is_table_file,
    require_no_table_options,
    table_folder,
)
from trainer.cli.data.show import class_table
from trainer.cli.data.weights import folder_of_weights, is_weights_file, with_conversion
from trainer.cli.progress import readable, transfer_progress
from trainer.data.declaration import Dataset, Draft, declaration, declared, is_declared, load_dataset, require_name
from trainer.data.files import SourceFolder, mode_of
from trainer.data.publish import PublishResult, publish_dataset, publish_declared
from trainer.data.versions import push_dataset

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.base.progress import Progress
    from trainer.cli.arguments import Verb
    from trainer.cli.data import DataContext

_INHERITED: Final = ("license", "source", "splits", "reader", "sample", "allow_nan", "twin")
"""Keys that a new version takes from the declaration, if no option replaces them."""


def add_publish_options(parser: Verb) -> None:
    """Declare the options of `publish`."""
    parser.set_defaults(verb=publish)
    parser.add_argument("name", metavar="NAME", help="name of the dataset, declared in datasets/NAME.toml")
    parser.add_argument(
        "folder",
        metavar="DIR|FILE",
        type=_folder,
        help="folder with the data; a table in one file; or a file with weights: .safetensors, or .pt, .pth, .ckpt or .bin, which "
        "is converted",
    )
    add_draft_options(parser)
    parser.usage = "%(prog)s [OPTIONS] NAME DIR|FILE"


def _folder(word: str) -> Path:
    if not word:  # an unset variable must not mean the current folder
        raise ArgumentTypeError("expected a folder or a file, found an empty word")
    return Path(word)


def publish(args: Namespace, context: DataContext) -> int:
    """Publish the folder or file that the user named."""
    require_name(args.name)
    mode_of(args.folder)
    args.upstream = None
    return publish_folder(args, context)


def publish_folder(args: Namespace, context: DataContext) -> int:
    """Publish `args.folder`, a folder or a file, as a version with the origin `args.upstream`, and declare it in this checkout."""
    _require_utf8(args)
    if is_weights_file(args.folder):
        with folder_of_weights(args) as folder:
            args.folder = folder
            return _publish_folder(args, context)
    return _publish_folder(args, context)


def _publish_folder(args: Namespace, context: DataContext) -> int:
    before = load_dataset(args.name, root=context.root) if is_declared(args.name, root=context.root) else None
    if not os.access(context.root / "datasets", os.W_OK):
        raise MachineError(
            f"{context.root / 'datasets'} is not writable",
            hint="publish from a checkout: scripts/reprise data publish",
        )
    progress = transfer_progress("publishing")
    if is_table_file(args.folder):
        values = _described(args, before)
        with table_folder(args, values, before, progress.note) as (folder, draft):
            published = _publish(draft, folder, args, before, context, progress)
    else:
        require_no_table_options(args)
        published = _publish(_draft(args, before), args.folder, args, before, context, progress)
    if published.dataset != before:
        write_whole(declaration(args.name, root=context.root), declared(published.dataset).encode())
    _print_published(args, published)
    return 0


def _publish(
    draft: Draft, folder: Path, args: Namespace, before: Dataset | None, context: DataContext, progress: Progress
) -> PublishResult:
    inspect = partial(inspect_draft, folder, progress.note)
    source = SourceFolder(root=folder, has_hidden=args.include_hidden, inspect=inspect)
    return publish_dataset(draft, source=source, store=context.open(), declared=before, progress=progress)


def _require_utf8(args: Namespace) -> None:
    """Raise `UsageError` for an argument that is not UTF-8, which a declaration could not contain."""
    for option, value in vars(args).items():
        for word in value if isinstance(value, list) else [value]:
            data = os.fsencode(word) if isinstance(word, str) else b""
            text = data.decode(errors="backslashreplace")
            if data and text != word:
                hint = "run the command in a terminal with a UTF-8 locale, for example LANG=C.UTF-8"
                raise UsageError(f"--{option.replace('_', '-')} '{short(text)}' is not UTF-8", hint=hint)


def publish_samples(args: Namespace, context: DataContext) -> int:
    """Create the sample datasets that the user named, by default all, and publish each as its declared version."""
    try:
        from trainer.data.sample_datasets import SAMPLES, make_sample
    except ImportError as fault:
        raise MachineError(
            f"the sample datasets need a package that is not installed: {fault.name}",
            hint="docker compose run --rm samples, or install the extra `samples` of uv.lock",
        ) from fault
    if unknown := next((name for name in args.names if name not in SAMPLES), None):
        raise DatasetError(f"unknown sample dataset {unknown!r}", hint=f"known: {', '.join(SAMPLES)}")
    for name in args.names or SAMPLES:
        dataset = load_dataset(name, root=context.root)
        with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
            make_sample(name, Path(folder))
            source = SourceFolder(root=Path(folder))
            _print_published(args, publish_declared(dataset, source=source, store=context.open()))
    return 0


def _described(args: Namespace, before: Dataset | None) -> dict[str, Any]:
    """Return the declared values from the options, or else from the earlier version; options of the reader are not applied."""
    values: dict[str, Any] = {} if before is None else before.model_dump(include=set(_INHERITED))
    values |= {key: getattr(args, key) for key in ("license", "source") if getattr(args, key)}
    values |= {"twin": args.twin} if getattr(args, "twin", None) else {}
    values["upstream"] = args.upstream
    if (conversion := getattr(args, "conversion", None)) is not None:
        values["source"] = with_conversion(values.get("source", ""), conversion)
    values["splits"] = _splits(args, values.get("splits") or {})
    if args.sample:
        values["sample"] = parse_distinct(args.sample, _sample_field)
    if args.allow_nan:
        values["allow_nan"] = args.allow_nan
    return values


def _splits(args: Namespace, declared: dict[str, Any]) -> dict[str, Any]:
    """Return the splits from the options, else from the declaration; a table in one file defaults to 80, 10 and 10 %."""
    seed, splits = args.split_seed or 0, declared
    if args.split:
        splits = parse_distinct(args.split, partial(parse_split, seed=seed))
    elif not declared and is_table_file(args.folder):
        splits = {name: {"percent": span, "seed": seed} for name, span in DEFAULT_SPLITS.items()}
    is_chosen = bool(args.split) or splits is not declared
    shares = {name: each for name, each in splits.items() if isinstance(each, dict) and "percent" in each}
    by = {key: getattr(args, key) for key in ("stratify", "group") if getattr(args, key)}
    if len(by) > 1:
        raise UsageError("--stratify cannot be used with --group", hint="remove --stratify or --group")
    option = next(iter(by), "split-seed" if args.split_seed is not None else None)
    if option and not (shares and is_chosen):
        raise UsageError(f"--{option} has no effect without a range in %", hint="for example --split train=0%:80%")
    return splits | {name: each | by for name, each in shares.items()} if by else splits


def _draft(args: Namespace, before: Dataset | None) -> Draft:
    values = _described(args, before)
    if reader := getattr(args, "reader", None) or parse_reader(args):
        values["reader"] = reader
    return typed({"name": args.name, **values}, Draft, where="command line")


def _sample_field(word: str) -> tuple[str, dict[str, Any]]:
    field, kind = parse_pair(word, "FIELD=TYPE[SHAPE]")
    match = re.fullmatch(r"(\w+)(?:\[((?:any|\d+)(?:,(?:any|\d+))*)?\])?", kind)
    if match is None:
        raise UsageError(
            f"expected FIELD=TYPE[SHAPE], found {word!r}", hint="for example image=float32[1,8,8] or text=uint8[any]"
        )
    shape = [length if length == "any" else int(length) for length in (match[2] or "").split(",") if length]
    return field, {"dtype": match[1], "shape": shape}


def _uploaded(size: int, uploaded: int) -> str:
    """Return the part of a version's bytes that was uploaded; no size if it is all of them."""
    if uploaded in {0, size}:
        return f", {'all' if uploaded else 'nothing'} uploaded"
    rest = f"{readable(size - uploaded)} not uploaded (duplicates, or already in the store)"
    return f" in total; {readable(uploaded)} uploaded; {rest}"


def _print_published(args: Namespace, published: PublishResult) -> None:
    dataset = published.dataset
    if args.json:
        facts = {key: value for key, value in asdict(published).items() if key != "dataset"}
        print(json.dumps({**dataset.model_dump(mode="json"), **facts}))
        return
    state = "published" if published.is_new else "already published, nothing changed"
    source = f" ({dataset.source_table.file} as Parquet)" if dataset.source_table else ""
    size = f"{counted(dataset.files, 'file')}{source}, {readable(dataset.bytes)}"
    print(f"{dataset.title}: {state}; {size}{_uploaded(dataset.bytes, published.uploaded)}")
    for line in class_table(published.classes):
        print(line)


def push_versions(args: Namespace, context: DataContext) -> int:
    """Copy each named version to another store."""
    source, target = two_stores(args.source, args.store, command="reprise data push NAME@VERSION")
    results = []
    for word in args.name:
        dataset = context.dataset(word, source=source)
        pushed = push_dataset(dataset, source=source, target=target, progress=transfer_progress("pushing"))
        facts = {"dataset": dataset.title, "manifest": dataset.manifest, "content": dataset.content}
        results.append({**facts, "store": target.address, "is_new": pushed.is_new, "sent": pushed.sent})
        if not args.json:
            is_changed = pushed.is_new or pushed.sent
            state = f"pushed, {readable(pushed.sent)} sent" if is_changed else "already stored, nothing sent"
            print(f"{dataset.title}: {state}; in {target.label}")
    if args.json:
        print(json.dumps(results))
    return 0
