"""The dataset cache: a folder that several users, containers and machines share.

Knows how a dataset appears in it whole or not at all. Refuses to know where bytes come from.

    datasets/<name>/<content>/            a complete dataset: files/, manifest.jsonl and, written last, complete.json
    datasets/<name>/.<content>-<uid>-*/   what one process has fetched so far: files/ verified one by one, new/ being written
    datasets/<name>/.<content>.lock       whose turn it is; a courtesy that saves bandwidth, on which nothing that is right depends

Folders above a dataset are as open as the cache's own folder: made with mode 1777, as /tmp is, it lets every user add and none remove
what is another's. A complete dataset is renamed into place as one folder; files are read-only, and nothing is ever taken from modes,
times or listings. Files are hashed while they come, and flushed to disk together, once, before the marker is written.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from trainer.digest import Digest, canonical, digest_of_bytes, digest_of_file
from trainer.document import Document, parse_json
from trainer.errors import AlteredError, DiskFullError, DocumentError, MachineError
from trainer.host.atomic import disk_faults, sync_folder, write_whole
from trainer.manifest import Pack
from trainer.store.contract import altered
from trainer.store.turn import turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from io import FileIO

    from trainer.dataset import Dataset
    from trainer.manifest import Entry

FILES: Final = "files"
MANIFEST: Final = "manifest.jsonl"
COMPLETE: Final = "complete.json"
_NEW: Final = "new"
_SPARE: Final = 16 << 20
"""What a file system needs beyond the bytes themselves, roughly."""


class Complete(Document):
    """What stands in `complete.json`: which dataset this folder holds."""

    format: Literal["reprise.cached/1"] = "reprise.cached/1"
    content: Digest
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The cache below `root`, which is made when something is put into it."""

    root: Path

    def find(self, dataset: Dataset) -> Path | None:
        """The folder of the dataset's files if all of it is here; None otherwise. Reads one small file, whatever the dataset's size."""
        folder = self.place(dataset)
        try:
            marker = parse_json((folder / COMPLETE).read_bytes(), Complete, where=str(folder / COMPLETE))
        except (OSError, DocumentError):
            return None
        return folder / FILES if marker == _marker(dataset) else None

    def place(self, dataset: Dataset) -> Path:
        """Where the complete dataset is, or would be."""
        return self.root / "datasets" / dataset.name / _hex(dataset)

    def turn(self, dataset: Dataset, *, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Wait while another process, perhaps another user's, fetches this dataset and gets on; `waiting` is called if so."""
        place = self._shared(dataset)
        lock = place.with_name(f".{_hex(dataset)}.lock")
        return turn(lock, is_done=lambda: self.find(dataset) is not None, waiting=waiting)

    def staging(self, dataset: Dataset, *, adopt: bool = True) -> Staging:
        """A folder of this process's own to fetch the dataset into.

        To `adopt` is to begin with what an earlier fetch of this user left, or with a dataset that was withdrawn or lost its marker.
        Both are taken over by renaming, so that no two processes ever write into one folder: of several, one gets it, and a process
        that was taken for dead finds its folder gone.
        """
        place = self._shared(dataset)
        folder = place.with_name(f"{self._prefix(dataset)}{secrets.token_hex(8)}")
        staging = Staging(folder=folder, place=place, dataset=dataset)
        with disk_faults(folder):
            if place.exists() and self.find(dataset) is None:
                _withdraw(place, folder)
            elif adopt:
                next((left for left in self._abandoned(dataset) if _renamed(left, folder)), None)
            for each in (folder, folder / FILES, folder / _NEW):
                _make(each, mode=0o755)
        return staging

    def reopen(self, dataset: Dataset) -> None:
        """Withdraw a dataset that was found damaged: the next fetch verifies every file and replaces what is wrong."""
        with disk_faults(self.place(dataset)):
            _withdraw(
                self.place(dataset), self.place(dataset).with_name(f"{self._prefix(dataset)}{secrets.token_hex(8)}")
            )

    def tidy(self, dataset: Dataset) -> None:
        """Remove what interrupted fetches of this user left of a dataset that is complete now."""
        for folder in self._abandoned(dataset):
            remove(folder)

    def _abandoned(self, dataset: Dataset) -> list[Path]:
        place = self.place(dataset)
        return sorted(place.parent.glob(f"{self._prefix(dataset)}*"))

    def _prefix(self, dataset: Dataset) -> str:
        return f".{_hex(dataset)}-{os.getuid()}-"

    def _shared(self, dataset: Dataset) -> Path:
        """The dataset's place, after the folders above it have been made, as open as the cache itself."""
        place = self.place(dataset)
        with disk_faults(place):
            self.root.mkdir(parents=True, exist_ok=True)
            mode = stat.S_IMODE(self.root.stat().st_mode)
            for folder in (self.root / "datasets", place.parent):
                _make(folder, mode=mode)
        return place


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A dataset on its way into the cache."""

    folder: Path
    place: Path
    dataset: Dataset

    def has(self, entry: Entry) -> bool:
        """Whether the file is here and right. It is hashed: what an earlier, killed fetch left is not believed."""
        return is_right(self.folder / FILES / entry.path, entry)

    def require(self, size: int) -> None:
        """Raise `DiskFullError` now rather than after an hour, when `size` more bytes cannot fit."""
        with disk_faults(self.folder):
            free = shutil.disk_usage(self.folder).free
        if free < size + _SPARE:
            sentence = f"{self.folder.parent} has {free / 1e6:,.0f} MB free; {self.dataset.title} needs {size / 1e6:,.0f} MB more"
            raise DiskFullError(sentence, hint="free space there, or set REPRISE_CACHE to a larger disk")

    @contextmanager
    def incoming(self, entry: Entry) -> Iterator[Incoming]:
        """Take in a file's bytes. No temporary file stays, but of a large file whose fetch was interrupted: the next one salvages it."""
        temporary = self.folder / _NEW / f"{_stem(entry)}.{secrets.token_hex(8)}"
        keep = False
        with disk_faults(self.folder / FILES / entry.path):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
            try:
                with os.fdopen(handle, "wb", buffering=0) as file:
                    yield Incoming(staging=self, entry=entry, temporary=temporary, file=file)
            except (OSError, AlteredError):
                raise
            except BaseException:
                keep = len(entry.segments) > 1
                raise
            finally:
                if not keep:
                    temporary.unlink(missing_ok=True)

    def leftovers(self, entry: Entry) -> list[Path]:
        """What earlier, interrupted fetches have of a file."""
        return sorted((self.folder / _NEW).glob(f"{_stem(entry)}.*"))

    def finish(self, manifest: bytes) -> Path:
        """Make the dataset durable and let it appear. If another process was first, its folder is the one, and this one is removed."""
        with disk_faults(self.folder):
            write_whole(self.folder / MANIFEST, manifest, mode=0o444)
            _flush(self.folder)
            write_whole(self.folder / COMPLETE, canonical(_marker(self.dataset).model_dump()), mode=0o444)
            try:
                self.folder.rename(self.place)
            except OSError:
                if not (self.place / COMPLETE).exists():
                    raise
                remove(self.folder)
            else:
                sync_folder(self.place.parent)
                shutil.rmtree(self.place / _NEW, ignore_errors=True)
                _close(self.place)
        return self.place / FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a file was, and the digest of that much."""

    size: int
    running: hashlib._Hash


class Incoming:
    """A file on its way: hashed as its bytes come, and named only when they are the right ones."""

    def __init__(self, *, staging: Staging, entry: Entry, temporary: Path, file: FileIO) -> None:
        """Begin with no bytes."""
        self._staging, self._entry, self._temporary, self._file = staging, entry, temporary, file
        self._running = hashlib.sha256()

    def write(self, block: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._running.update(block)
        left = memoryview(block)
        while left:
            left = left[self._file.write(left) :]

    def salvage(self) -> int:
        """Take over what an interrupted fetch left of this file; the number of segments that came of it, each verified."""
        taken = 0
        for leftover in self._staging.leftovers(self._entry):
            if leftover == self._temporary:
                continue
            with suppress(FileNotFoundError), leftover.open("rb") as file:
                file.seek(sum(segment.length for segment in self._entry.segments[:taken]))
                for segment in self._entry.segments[taken:]:
                    data = file.read(segment.length)
                    if Pack(sha256=digest_of_bytes(data), size=len(data)) != segment.pack:
                        break
                    self.write(data)
                    taken += 1
            leftover.unlink(missing_ok=True)
        return taken

    def mark(self) -> Mark:
        """Remember how far the file is."""
        return Mark(size=self._file.tell(), running=self._running.copy())

    def rewind(self, mark: Mark) -> None:
        """Forget what came since."""
        self._file.seek(mark.size)
        self._file.truncate()
        self._running = mark.running.copy()

    def settle(self, paths: tuple[str, ...]) -> None:
        """Give the file its name, or its names. Raises `AlteredError` when its bytes are not the ones the manifest names."""
        found = f"sha256:{self._running.hexdigest()}"
        if found != self._entry.sha256:
            what = f"{self._staging.dataset.title}: {self._entry.path}"
            raise altered(what, expected=self._entry.sha256, found=found)
        os.fchmod(self._file.fileno(), 0o444)  # readable by every user, whatever this one's umask
        self._file.close()  # before it has a name: a network disk may say only now that it is full
        for path in paths[1:]:
            self._copy(self._target(path))
        self._temporary.rename(self._target(paths[0]))

    def _target(self, path: str) -> Path:
        folder = self._staging.folder / FILES
        target = folder / path
        if not target.parent.is_dir():
            for part in path.split("/")[:-1]:
                folder /= part
                _make(folder, mode=0o755)
        return target

    def _copy(self, target: Path) -> None:
        """A second name for the same bytes; a second file where there are no hard links."""
        second = self._temporary.with_suffix(".copy")
        try:
            os.link(self._temporary, second)
        except OSError:
            shutil.copyfile(self._temporary, second)
            second.chmod(0o444)
        second.replace(target)
        second.unlink(missing_ok=True)  # renaming a file onto another name of itself leaves both


def is_right(path: Path, entry: Entry) -> bool:
    """Whether a file is there and has the bytes that the manifest names."""
    with disk_faults(path):
        try:
            return path.stat().st_size == entry.size and digest_of_file(path) == entry.sha256
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False


def remove(folder: Path) -> None:
    """Remove a folder of this user's, its read-only folders included. Nothing happens when it is not there."""
    for here, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(here).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise MachineError(f"{folder} could not be removed", hint="remove it as the user that owns it")


def _withdraw(place: Path, folder: Path) -> None:
    """Make what stands at a dataset's place the beginning of a new fetch."""
    for here, _, _ in os.walk(place):
        Path(here).chmod(0o755)
    (place / COMPLETE).unlink(missing_ok=True)
    place.rename(folder)


def _renamed(old: Path, new: Path) -> bool:
    try:
        old.rename(new)
    except OSError:
        return False
    return True


def _marker(dataset: Dataset) -> Complete:
    return Complete(content=dataset.content, files=dataset.files, bytes=dataset.bytes)


def _stem(entry: Entry) -> str:
    return entry.sha256.removeprefix("sha256:")[:32]


def _hex(dataset: Dataset) -> str:
    return dataset.content.removeprefix("sha256:")


def _make(folder: Path, *, mode: int) -> None:
    """Make a folder with just this mode; one that is there keeps its own, whoever owns it."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(mode)


def _close(folder: Path) -> None:
    """Let nobody add to a complete dataset by mistake."""
    for here, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(here).chmod(0o555)


def _flush(folder: Path) -> None:
    """Write everything on this file system to disk. 2,000 files of 8 kB: one by one 2.4 s, together 0.4 s."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    except AttributeError:  # macOS has no syncfs
        os.sync()
    finally:
        os.close(handle)
