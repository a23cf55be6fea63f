"""The table of a script's outputs, by digests of their content: equal outputs of two runs have equal digests.

Files are compared by their bytes, with these exceptions. The path of the run's folder, which differs between runs, is read as `{run}`.
An archive (a checkpoint of torch, an .npz) is compared by its members, and a pickle in it by its operations, since a pickle stores the
length of each text. The TensorBoard event files of a folder are compared by their scalars, since each event contains the time, and each
file name the time and the host.
"""

from __future__ import annotations

import hashlib
import os
import pickletools
import zipfile
from fnmatch import fnmatch
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from trainer.base.digest import canonical, digest_of_document
from trainer.base.run_files import attempt_root
from trainer.runs.outputs import FILE, FOLDER, OutputEntry, OutputTable
from trainer.training.scripts.results import EVENTS, scalars_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root

_BLOCK: Final = 1 << 20
_LARGEST_PICKLE: Final = 1 << 24
_VARYING: Final = "/.data/serialization_id"
"""A member of torch's archives that is computed from the other members."""


def write_outputs(attempt: Path, *, exclude: Sequence[str]) -> OutputTable:
    """Read all outputs of an attempt, and write and return their table; `exclude` holds patterns of paths or names not to compare."""
    run = os.fsencode(attempt.parents[1])
    with attempt_root(attempt) as root, root.below(FOLDER) as output:
        paths = dict.fromkeys(sorted(_joined(path) for path, _ in output.walk() if output.has_file(path)))
        entries: dict[str, OutputEntry] = {}
        for path in paths:
            name = path.rpartition("/")[2]
            is_compared = not any(fnmatch(path, each) or fnmatch(name, each) for each in exclude)
            form, content = _content(output, path, run)
            entries[path] = OutputEntry(form=form, content=content, is_compared=is_compared)
        table = OutputTable(outputs=entries)
        root.write_whole(FILE, canonical(table.model_dump(mode="json")) + b"\n")
    return table


def _joined(path: str) -> str:
    """Return the path of an output in the table; all event files of a folder share one path."""
    name = path.rpartition("/")[2]
    return f"{path.removesuffix(name)}{EVENTS}*" if name.startswith(EVENTS) else path


def _content(output: Root, path: str, run: bytes) -> tuple[Literal["bytes", "archive", "scalars"], str]:
    if path.endswith(f"{EVENTS}*"):
        folder = output.path / path.rpartition("/")[0]
        return "scalars", digest_of_document([[each.name, each.step, repr(each.value)] for each in scalars_of(folder)])
    with output.open(path) as file:
        if zipfile.is_zipfile(file):
            try:
                return "archive", digest_of_document(dict(_members(file, run)))
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError):
                pass  # damaged or encrypted: its bytes are compared
        file.seek(0)
        return "bytes", _digest(_replaced(file, run))


def _members(file: BinaryIO, run: bytes) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(_VARYING):
                with archive.open(info) as member:
                    is_pickle = info.filename.endswith(".pkl") and info.file_size <= _LARGEST_PICKLE
                    blocks = _operations(member.read(), run) if is_pickle else _replaced(member, run)
                    yield info.filename, _digest(blocks)


def _operations(data: bytes, run: bytes) -> Iterator[bytes]:
    """Yield the operations of a pickle, without executing them; yield a pickle that cannot be read unchanged."""
    try:
        operations = [(each.name, repr(argument)) for each, argument, _ in pickletools.genops(data)]
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        yield data
        return
    for name, argument in operations:
        if name != "FRAME":  # the argument of FRAME is a length, which depends on the paths
            yield f"{name} {argument}\n".encode(errors="backslashreplace").replace(run, b"{run}")


def _replaced(file: Iterable[bytes] | BinaryIO, run: bytes) -> Iterator[bytes]:
    """Yield the blocks of a file with `{run}` in place of the run's folder."""
    rest = b""
    while block := file.read(_BLOCK):  # type: ignore[union-attr]
        *whole, rest = (rest + block).split(run)
        yield from (part + b"{run}" for part in whole)
        cut = max(len(rest) - len(run), 0)  # the path may continue in the next block
        yield rest[:cut]
        rest = rest[cut:]
    yield rest


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"
