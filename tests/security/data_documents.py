"""Documents and files of datasets that an attacker could change: declarations, manifests, arrays, tables, pictures."""

from __future__ import annotations

import io
import json
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.data.manifests import hashed_file, pack_files
from tests.security.kind import ROOT, Kind, command
from tests.security.mutation import mutated_json
from trainer.base.digest import digest_of_bytes
from trainer.cli import configuration as command_configuration
from trainer.cli import data as data_command
from trainer.data.cache.locks import active_leases
from trainer.data.declaration import load_dataset
from trainer.data.file_formats import parse_head
from trainer.data.manifest import parse_manifest
from trainer.data.pictures import parse_labels

if TYPE_CHECKING:
    from pathlib import Path


def declaration(folder: Path) -> Kind:
    """The declaration of a dataset, which `data ls`, `show` and `gc` read."""
    (folder / "datasets").mkdir()
    path, turn = folder / "datasets" / "digits.toml", count()
    for module in (data_command, command_configuration):
        vars(module)["CHECKOUT"] = folder
    verbs = (("ls",), ("ls", "--json"), ("show", "digits"), ("show", "digits", "--json"), ("gc",))

    def read(body: bytes) -> None:
        path.write_bytes(body)
        command("data", *verbs[next(turn) % len(verbs)])
        load_dataset("digits", root=folder)

    return Kind([each.read_bytes() for each in (ROOT / "datasets").glob("*.toml")], read)


def version(folder: Path) -> Kind:
    """The document of a dataset version in a store."""
    (folder / "datasets").mkdir()
    (folder / "files").mkdir()
    for module in (data_command, command_configuration):
        vars(module)["CHECKOUT"] = folder
    for text in (b"a", b"b"):
        (folder / "files" / "a.txt").write_bytes(text)
        command("data", "publish", "words", str(folder / "files"))
    path, turn = folder / "store" / "datasets" / "words" / "1.json", count()
    path.chmod(0o644)
    verbs = (("show", "words@1"), ("show", "words@1", "--json"), ("fetch", "words@1"), ("diff", "words@1", "words"))

    def read(body: bytes) -> None:
        path.write_bytes(body)
        command("data", *verbs[next(turn) % len(verbs)])

    return Kind([path.read_bytes()], read, mutated_json)


def manifest(_: Path) -> Kind:
    """A manifest, whose digest a hostile declaration could name."""
    raw = pack_files(*(hashed_file(f"a/{number:02}.txt", b"x" * (number + 1)) for number in range(20)))[1]

    def read(body: bytes) -> None:
        listing = parse_manifest(body)
        assert len([*listing]) == len(listing)

    return Kind([raw], read)


def npy(folder: Path) -> Kind:
    """An array file: its header and its rows."""
    import numpy as np

    from trainer.data.files import FolderFiles
    from trainer.data.reader import ArraysReader
    from trainer.training.readers.arrays import ArrayRows

    files: Any = FolderFiles(folder, ["a.npy"])
    reader = ArraysReader.model_validate({"kind": "arrays", "fields": {"x": "a.npy"}})

    def read(body: bytes) -> None:
        (folder / "a.npy").write_bytes(body)
        parse_head(body, size=len(body), where="a.npy")
        rows = ArrayRows(reader, files, dataset="d")
        [*rows.blocks(np.arange(min(len(rows), 10)))]

    good = []
    for array in (np.zeros((3, 2), np.float32), np.zeros((4,), np.int64), np.zeros((0, 3)), np.zeros((2, 1, 4), "u1")):
        body = io.BytesIO()
        np.save(body, array)
        good.append(body.getvalue())
    return Kind(good, read)


def parquet(folder: Path) -> Kind:
    """A Parquet table: its footer and its values."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trainer.data.files import FolderFiles
    from trainer.data.reader import TableReader
    from trainer.training.readers.tables import TableRows

    files: Any = FolderFiles(folder, ["t.parquet"])
    reader = TableReader.model_validate(
        {"kind": "table", "files": ["t.parquet"], "fields": {"x": {"column": ["a", "b"]}}}
    )

    def read(body: bytes) -> None:
        (folder / "t.parquet").write_bytes(body)
        rows = TableRows(reader, files)
        [*rows.blocks(np.arange(min(len(rows), 100)))]

    good = []
    for options in (
        {},
        {"compression": "none", "row_group_size": 10},
        {"use_dictionary": False, "compression": "zstd"},
    ):
        body = io.BytesIO()
        pq.write_table(pa.table({"a": np.arange(50.0), "b": np.arange(50), "c": ["x"] * 50}), body, **options)
        good.append(body.getvalue())
    return Kind(good, read)


def labels(_: Path) -> Kind:
    """A table of labels, in encodings that spreadsheet programs write."""
    good = b'file,class\na/1.png,cat\na/2.png,"dog, big"\n'
    return Kind([good, good.decode().encode("utf-16")], lambda body: parse_labels(body, where="labels.csv"))


def cache(folder: Path) -> Kind:
    """A lease in a cache to which other users write."""
    good = {"format": "reprise.lease/1", "name": "d", "content": digest_of_bytes(b""), "boot": "x", "since": 1e9}
    (folder / "cache" / "leases").mkdir(parents=True)

    def read(body: bytes) -> None:
        (folder / "cache" / "leases" / "a.json").write_bytes(body)
        [*active_leases(folder / "cache", now=2e9)]

    return Kind([json.dumps(good).encode()], read, mutated_json)


def pictures(_: Path) -> Kind:
    """Pictures in every supported format, and in some others."""
    from tests.training.readers.test_broken_pictures import FILES, READERS
    from trainer.training.readers.images import decode_pixels

    turn = count()
    strangers = [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"BLP2\1\0\0\0" + bytes(200),
        b"8BPS\0\1",
    ]
    return Kind(
        [*FILES.values(), *strangers],
        lambda body: decode_pixels(body, READERS[next(turn) % len(READERS)], where="a.png"),
    )
