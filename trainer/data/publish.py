"""Publishing a folder as a version of a dataset.

Knows the order that makes it safe: packs, then the manifest, then, last, the version's name, which is created and never replaced.
Refuses to know which store and who is watching. Publishing the same folder twice uploads nothing and names nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import chain, count, takewhile
from typing import TYPE_CHECKING, Final

from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import DatasetError, DigestMismatchError, ObjectMissingError, StoreDeniedError
from trainer.base.parallel import Stop, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.base.secret_detection import secret_by_content
from trainer.base.spool import mapped, spool
from trainer.base.suggestions import short
from trainer.data.check import UNSEEN, check_dataset
from trainer.data.check_pictures import describe_renumbering
from trainer.data.content_duplicates import ContentTwins
from trainer.data.declaration import Dataset, Described, Draft, parse_dataset
from trainer.data.fetch import read_manifest
from trainer.data.file_names import check_paths
from trainer.data.manifest import parse_manifest
from trainer.data.manifest_lines import Pack, digest_of_raw
from trainer.data.packing import Laying, Slice
from trainer.data.pictures import find_pictures
from trainer.data.reader import Images
from trainer.data.source_folder import edited
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from mmap import mmap

    from trainer.base.progress import Progress
    from trainer.data.check import Checked
    from trainer.data.check_pictures import ClassCount
    from trainer.data.packing import Hashed, Shared
    from trainer.data.source_folder import LeftOut, Listed, SourceFolder
    from trainer.stores.contract import Store


_AT_ONCE: Final = 64
"""Files that one thread hashes before it looks for more."""
_IN_HAND: Final = 256 * _AT_ONCE
"""Files that are hashed before they are laid, and forgotten: 10 MB."""
_UPLOADS: Final = 4
"""Packs held in memory at once: 4 of 32 MiB stay well under 300 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the publisher of a folder should know about it; progress has reported the notes already."""

    classes: tuple[ClassCount, ...] = ()
    """Of pictures, with their samples in each split."""
    left_out: tuple[LeftOut, ...] = ()
    """What is in the folder and not in the version."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What came of it."""

    dataset: Dataset
    is_new: bool
    """Whether this call named the version."""
    uploaded: int
    """Bytes that the store did not have."""
    findings: Findings = Findings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A folder's files in the store: what names them, and how much had to be sent."""

    manifest: str
    content: str
    files: int
    bytes: int
    uploaded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    store: Store
    source: SourceFolder
    lines: bytes | mmap
    progress: Progress

    def one(self, new: Shared | Slice, stop: Stop) -> tuple[Pack, int]:
        """Store a pack unless it is there; tell how many bytes that took."""
        stop.check()
        slices = iter((new,)) if isinstance(new, Slice) else new.slices(self.lines)
        first = next(slices)
        if first.length == new.size:
            return self._alone(first, stop)
        filling = io.BytesIO()  # which gives its bytes away uncopied; joining pieces would hold them twice
        for piece in chain((first,), slices):
            stop.check()
            filling.write(self._read(piece))
        body = filling.getvalue()
        pack = Pack(sha256=digest_of_bytes(body), size=len(body))
        return pack, self._stored(pack, lambda: body, stop)

    def _alone(self, piece: Slice, stop: Stop) -> tuple[Pack, int]:
        """The same for a pack of one slice, whose digest is known: what is there is not read, what is not is hashed by `write` alone."""
        pack = Pack(sha256=piece.sha256, size=piece.length)
        try:
            return pack, self._stored(pack, lambda: self.source.read(piece), stop)
        except DigestMismatchError:
            self._read(piece)  # says so where the file is not what it was
            raise

    def _stored(self, pack: Pack, body: Callable[[], bytes], stop: Stop) -> int:
        """Bring a pack into the store; how many bytes that took."""
        key = object_key(pack.sha256)
        here = patiently(lambda: self.store.holds(key, size=pack.size, sha256=pack.sha256), stop)
        if not here:
            data = body()
            patiently(lambda: self.store.write(key, data, sha256=pack.sha256), stop)
        self.progress.advance(pack.size)
        return 0 if here else pack.size

    def _read(self, piece: Slice) -> bytes:
        data = self.source.read(piece)
        if digest_of_bytes(data) != piece.sha256:
            raise edited(self.source.root / piece.path)
        return data


def publish_dataset(
    draft: Draft, *, source: SourceFolder, store: Store, declared: Dataset | None = None, progress: Progress = SILENT
) -> Published:
    """Make the folder's files a version of `draft.name`; `declared` is what git says the dataset is now.

    Raises `ManifestError` for files that no dataset may have, `DatasetError` for a file edited meanwhile and for a secret in the
    description, `StoreError` and its kinds.
    """
    _require_no_secret(draft)
    listed = source.listed()
    check_paths(listed.paths)
    checked = check_dataset(draft, source, listed.paths)
    notes = [*checked.notes, *_described(listed, draft.name), *_renumbered(draft, checked, declared, listed.paths)]
    for line in notes:
        progress.note(line)
    draft = _with_classes(draft, checked)
    newest = newest_version(store, draft.name)
    twins = ContentTwins(checked.places)
    with spool() as lines:
        laying = Laying(lines, known=read_manifest(store, newest) if newest else None, most=source.part_bytes)
        _lay(source, listed.paths, laying, twins=twins)
        is_read = bool(newest and _is_inspected(draft, newest, laying.lines.content)) or (
            source.inspect is not None and source.inspect(draft, listed.paths)
        )
        late = [f"{draft.name}: {UNSEEN}"] if checked.is_unseen and not is_read else []
        for line in (late := [*late, *twins.notes(listed.paths, dataset=draft.name)]):
            progress.note(line)
        found = Findings(classes=checked.classes, left_out=listed.left_out, notes=(*notes, *late))
        del listed, checked
        stored = _upload(laying, mapped(lines), source=source, store=store, progress=progress)
    candidate = _candidate(draft, stored)
    if newest and candidate.published == newest.model_copy(update={"version": 1}):
        kept = _with_twin(newest, draft)
        return Published(dataset=kept, is_new=False, uploaded=stored.uploaded, findings=found)
    as_declared = declared and candidate.published == declared.published.model_copy(update={"version": 1})
    first = (
        declared.version
        if declared and as_declared
        else max(each.version if each else 0 for each in (newest, declared)) + 1
    )
    dataset, is_new = name_version(store, candidate, first=first)
    return Published(dataset=_with_twin(dataset, draft), is_new=is_new, uploaded=stored.uploaded, findings=found)


def _with_classes(draft: Draft, checked: Checked) -> Draft:
    """The draft with its classes by number: a version records them, so that files that are added renumber none."""
    if not isinstance(draft.reader, Images):
        return draft
    classes = tuple(each.name for each in checked.classes)
    return draft.model_copy(update={"reader": draft.reader.model_copy(update={"classes": classes})})


def _renumbered(draft: Draft, checked: Checked, declared: Dataset | None, paths: Sequence[str]) -> list[str]:
    """Report classes whose numbers differ from those in the declared version."""
    if declared is None or not isinstance(declared.reader, Images) or not isinstance(draft.reader, Images):
        return []
    before = declared.reader.classes
    if not before and declared.reader.labels is None:
        try:
            before = find_pictures(declared.reader, paths, None, declared=declared).classes
        except DatasetError:
            return []
    return describe_renumbering(before, [each.name for each in checked.classes], dataset=draft.name)


def _described(listed: Listed, dataset: str) -> list[str]:
    """Report what is left out of the version, and what comes from outside of the folder."""
    notes = []
    for each in listed.left_out:
        keep = "; --include-hidden publishes hidden files" if each.reason == "hidden" else ""
        notes.append(f"{dataset}: left out: {each.count:,} {each.reason}, as {short(each.example)!r}{keep}")
    if listed.linked:
        files = "1 link leads" if len(listed.linked) == 1 else f"{len(listed.linked):,} links lead"
        notes.append(
            f"{dataset}: {files} out of the folder; published is what they lead to, as {short(listed.linked[0])!r}"
        )
    return notes


def _is_inspected(draft: Draft, newest: Dataset, content: str) -> bool:
    """Whether a version has these files already, read in the same way."""
    said = ("reader", "splits", "sample", "allow_nan")
    return content == newest.content and all(getattr(draft, key) == getattr(newest, key) for key in said)


def publish_declared(
    declared: Dataset, *, source: SourceFolder, store: Store, progress: Progress = SILENT
) -> Published:
    """Publish the folder as exactly the version that is declared. Raises `DatasetError` with both digests when it is another one."""
    _require_no_secret(declared)
    with spool() as lines:
        laying = Laying(lines, most=source.part_bytes)
        _lay(source, source.paths(), laying)
        _require(declared, "content", laying.lines.content)
        stored = _upload(laying, mapped(lines), source=source, store=store, progress=progress)
    _require(declared, "manifest", stored.manifest)
    is_new = store.create(version_key(declared.name, declared.version), version_document(declared))
    if not is_new and (there := read_version(store, declared.name, declared.version)) != declared.published:
        sentence = f"{declared.title} in {store.label} is another one: manifest {there and there.manifest}"
        raise DatasetError(
            f"{sentence}; declared is {declared.manifest}",
            hint="a version is never replaced: publish under the next one",
        )
    return Published(dataset=declared, is_new=is_new, uploaded=stored.uploaded)


def _require_no_secret(described: Described) -> None:
    """Raise `DatasetError` for a password or a key in what is said of a dataset: everyone who can read the store reads that."""
    for key in ("source", "license"):
        if reason := secret_by_content(getattr(described, key).encode()):
            said = f"the {key} of dataset {described.name} is published with it, and {reason}"
            raise DatasetError(
                said, hint=f"write the {key} without it, in datasets/{described.name}.toml or as --{key}"
            )


def _lay(source: SourceFolder, paths: Sequence[str], laying: Laying, *, twins: ContentTwins | None = None) -> None:
    """Hash and lay all files, in order."""

    def some(first: int, stop: Stop) -> list[Hashed]:
        hashed = []
        for path in paths[first : first + _AT_ONCE]:
            stop.check()
            hashed.append(source.hashed(path))
        return hashed

    for first in range(0, len(paths), _IN_HAND):
        firsts = range(first, min(first + _IN_HAND, len(paths)), _AT_ONCE)
        for hashed in chain.from_iterable(in_parallel(some, firsts)):
            laying.add(hashed)
            if twins is not None:
                twins.add(hashed.sha256)
    laying.close()


def _upload(laying: Laying, lines: bytes | mmap, *, source: SourceFolder, store: Store, progress: Progress) -> Stored:
    """Bring the packs that the store lacks into it, and the manifest that names them."""
    progress.begin(f"what is new in {source.root}", sum(new.size for new in laying.new))
    try:
        upload = _Upload(store=store, source=source, lines=lines, progress=progress)
        packs = in_parallel(upload.one, laying.new, threads=_UPLOADS)
    finally:
        progress.end()
    return Stored(
        manifest=_named(laying.manifest(lines, [pack for pack, _ in packs]), store=store),
        content=laying.lines.content,
        files=laying.lines.files,
        bytes=laying.lines.bytes,
        uploaded=sum(size for _, size in packs),
    )


def _named(manifest: Iterable[bytes], *, store: Store) -> str:
    """Store the manifest, once it is read as others will read it; its digest. Raises `ManifestError`."""
    with spool() as file:
        file.writelines(manifest)
        raw = mapped(file)
        parse_manifest(raw)
        digest = digest_of_raw(raw)
        store.write(object_key(digest), file, sha256=digest)
    return digest


def name_version(store: Store, candidate: Dataset, *, first: int) -> tuple[Dataset, bool]:
    """Give the dataset the first free version from `first` on, or the one that already says the same; tell whether it is new."""
    for version in count(first):
        dataset = candidate.model_copy(update={"version": version})
        if store.create(version_key(dataset.name, version), version_document(dataset)):
            return dataset, True
        if read_version(store, dataset.name, version) == dataset.published:
            return dataset, False
    raise AssertionError("versions do not end")


def newest_version(store: Store, name: str) -> Dataset | None:
    """The highest version of `name` in the store; None when there is none."""
    found = list_versions(store, name)
    return read_version(store, name, found[-1]) if found else None


def list_versions(store: Store, name: str) -> list[int]:
    """The versions of `name` in the store: those that it lists, for some may have been pushed without the earlier ones, and the next.

    The listing is a help and no evidence: credentials that may not list find 1, 2, ... by asking.
    """
    try:
        listed = [_version_of(key) for key in store.keys(f"datasets/{name}/")]
    except StoreDeniedError:
        listed = []
    known = sorted({version for version in listed if version and store.size(version_key(name, version)) is not None})
    after = count(max(known, default=0) + 1)
    return [*known, *takewhile(lambda version: store.size(version_key(name, version)) is not None, after)]


def _version_of(key: str) -> int:
    """The version that a key names; 0 for another key."""
    number = key.rpartition("/")[2].removesuffix(".json")
    return int(number) if number.isdecimal() and key == version_key(key.split("/")[1], int(number)) else 0


def read_version(store: Store, name: str, version: int) -> Dataset | None:
    """What the store says a version is; None when it has none of that name."""
    key = version_key(name, version)
    try:
        return parse_dataset(b"".join(store.read(key)), where=f"{key} in {store.label}")
    except ObjectMissingError:
        return None


def version_key(name: str, version: int) -> str:
    """Where a version is named in a store."""
    return f"datasets/{name}/{version}.json"


def version_document(dataset: Dataset) -> bytes:
    """A version as it is named in a store: what git declares, as canonical JSON."""
    return canonical(dataset.published.model_dump(mode="json"))


def _require(declared: Dataset, what: str, found: str) -> None:
    expected = getattr(declared, what)
    if found != expected:
        sentence = f"dataset {declared.title}: its {what} is {found}; declared is {expected}"
        raise DatasetError(
            sentence,
            hint="it was made from other data than the declaration: compare the versions of what it was made from",
        )


def _with_twin(dataset: Dataset, draft: Draft) -> Dataset:
    return dataset.model_copy(update={"twin": draft.twin})


def _candidate(draft: Draft, stored: Stored) -> Dataset:
    return Dataset(
        version=1,
        manifest=stored.manifest,
        content=stored.content,
        files=stored.files,
        bytes=stored.bytes,
        **{key: getattr(draft, key) for key in Draft.model_fields},
    )
