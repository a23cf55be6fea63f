"""Publish a folder as a version of a dataset.

Packs are uploaded first, then the manifest, then the version's document, which is created and never replaced. Publishing the same folder
again uploads nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.parallel import HashingThreads, StopFlag, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.base.secret_detection import secret_by_content
from trainer.base.spool import mapped, spool
from trainer.base.suggestions import short
from trainer.data.check import check_dataset
from trainer.data.check_pictures import describe_renumbering
from trainer.data.declaration import Dataset, Described, Draft
from trainer.data.fetch import read_manifest
from trainer.data.file_names import check_paths
from trainer.data.files import edited_error
from trainer.data.manifest import parse_manifest
from trainer.data.manifest_lines import Pack, digest_of_raw
from trainer.data.packing import PackPlan, Slice
from trainer.data.reader import ImagesReader
from trainer.data.splits import ContentDuplicates
from trainer.data.versions import name_version, newest_version, read_version, version_document, version_key
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from mmap import mmap

    from trainer.base.progress import Progress
    from trainer.data.check_pictures import ClassCount
    from trainer.data.files import FolderListing, LeftOut, SourceFolder
    from trainer.data.packing import HashedFile, SharedPack
    from trainer.stores.contract import Store


_AT_ONCE: Final = 64
"""Number of files that a thread hashes in one piece of work."""
_BATCH: Final = 256 * _AT_ONCE
"""Number of files that are hashed before they are assigned to packs: 10 MB of memory."""
_UPLOADS: Final = 4
"""Number of packs in memory at once: 4 packs of 32 MiB need less than 300 MB."""
_EDIT_HINT: Final = "remove the secret from `{key}` in datasets/{name}.toml, or pass --{key} without it"
_IMPORT_HINT: Final = "import it from an address without the secret: reprise data import {name} ADDRESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """The result of a publication."""

    dataset: Dataset
    is_new: bool
    """Whether this call created the version."""
    uploaded: int
    """Bytes that the store did not have."""
    classes: tuple[ClassCount, ...] = ()
    """The classes of pictures, with their samples in each split."""
    left_out: tuple[LeftOut, ...] = ()
    """Entries of the folder that are not in the version."""
    notes: tuple[str, ...] = ()
    """Notes for the publisher, which the progress also reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    store: Store
    source: SourceFolder
    lines: bytes | mmap
    progress: Progress

    def one(self, new: SharedPack | Slice, stop: StopFlag) -> tuple[Pack, int]:
        """Upload a pack that the store lacks; return the pack and the number of uploaded bytes."""
        stop.check()
        slices = iter((new,)) if isinstance(new, Slice) else new.slices(self.lines)
        first = next(slices)
        if first.length == new.size:
            return self._single(first, stop)
        filling = io.BytesIO()  # `getvalue` does not copy; joining pieces would need twice the memory
        for piece in chain((first,), slices):
            stop.check()
            filling.write(self._read(piece))
        body = filling.getvalue()
        pack = Pack(sha256=digest_of_bytes(body), size=len(body))
        return pack, self._upload(pack, lambda: body, stop)

    def _single(self, piece: Slice, stop: StopFlag) -> tuple[Pack, int]:
        """Upload a pack of one slice, whose digest is known: it is read only if the store lacks it, and verified by `write`."""
        pack = Pack(sha256=piece.sha256, size=piece.length)
        try:
            return pack, self._upload(pack, lambda: self.source.read(piece), stop)
        except DigestMismatchError:
            self._read(piece)  # raises a `DatasetError` if the file was edited
            raise

    def _upload(self, pack: Pack, body: Callable[[], bytes], stop: StopFlag) -> int:
        """Upload a pack that the store lacks; return the number of uploaded bytes."""
        key = object_key(pack.sha256)
        is_stored = patiently(lambda: self.store.holds(key, size=pack.size, sha256=pack.sha256), stop)
        if not is_stored:
            data = body()
            patiently(lambda: self.store.write(key, data, sha256=pack.sha256), stop)
        self.progress.advance(pack.size)
        return 0 if is_stored else pack.size

    def _read(self, piece: Slice) -> bytes:
        data = self.source.read(piece)
        if digest_of_bytes(data) != piece.sha256:
            raise edited_error(self.source.root / piece.path)
        return data


def publish_dataset(
    draft: Draft, *, source: SourceFolder, store: Store, declared: Dataset | None = None, progress: Progress = SILENT
) -> PublishResult:
    """Publish a folder as a version of `draft.name`; `declared` is the current declaration.

    Raise `ManifestError` if a file name is invalid, `DatasetError` if the files do not fit the draft, a file is edited during publication
    or the description contains a secret, and `StoreError` if the store fails.
    """
    _require_no_secret(draft)
    listed = source.list_files()
    check_paths(listed.paths)
    checked = check_dataset(draft, source, listed.paths)
    notes = [
        *checked.notes,
        *_describe_listing(listed, draft.name),
        *describe_renumbering(declared, draft, checked.classes, listed.paths),
    ]
    for line in notes:
        progress.note(line)
    if isinstance(draft.reader, ImagesReader):  # declare the classes, so that new files do not renumber them
        names = tuple(each.name for each in checked.classes)
        draft = draft.model_copy(update={"reader": draft.reader.model_copy(update={"classes": names})})
    newest = newest_version(store, draft.name)
    duplicates = ContentDuplicates(checked.file_numbers)
    with spool() as lines:
        plan = PackPlan(lines, known=read_manifest(store, newest) if newest else None, most=source.part_bytes)
        _hash_files(source, listed.paths, plan, duplicates=duplicates)
        keys = ("reader", "splits", "sample", "allow_nan")
        is_read = bool(
            newest
            and plan.lines.content == newest.content
            and all(getattr(draft, key) == getattr(newest, key) for key in keys)
        ) or (source.inspect is not None and source.inspect(draft, listed.paths))
        late = [f"{draft.name}: {checked.unchecked}"] if checked.unchecked and not is_read else []
        for line in (late := [*late, *duplicates.notes(listed.paths, dataset=draft.name)]):
            progress.note(line)
        classes, left_out = checked.classes, listed.left_out
        del listed, checked
        manifest, uploaded = _upload(
            plan, mapped(lines), name=draft.name, source=source, store=store, progress=progress
        )
    candidate = Dataset(
        version=1,
        manifest=manifest,
        content=plan.lines.content,
        files=plan.lines.files,
        bytes=plan.lines.bytes,
        **{key: getattr(draft, key) for key in Draft.model_fields},
    )
    if newest and candidate.published == newest.model_copy(update={"version": 1}):
        dataset, is_new = newest, False
    else:
        is_as_declared = declared and candidate.published == declared.published.model_copy(update={"version": 1})
        highest = max(each.version if each else 0 for each in (newest, declared))
        first = declared.version if declared and is_as_declared else highest + 1
        dataset, is_new = name_version(store, candidate, first=first)
    dataset = dataset.model_copy(update={"twin": draft.twin})
    return PublishResult(
        dataset=dataset, is_new=is_new, uploaded=uploaded, classes=classes, left_out=left_out, notes=(*notes, *late)
    )


def _describe_listing(listed: FolderListing, dataset: str) -> list[str]:
    """Return notes on entries that are left out, and on links out of the folder."""
    notes = []
    for each in listed.left_out:
        keep = "; --include-hidden publishes hidden files" if each.reason == "hidden" else ""
        notes.append(f"{dataset}: left out: {each.count:,} {each.reason}, for example {short(each.example)!r}{keep}")
    if listed.linked:
        files = "1 link leads" if len(listed.linked) == 1 else f"{len(listed.linked):,} links lead"
        notes.append(
            f"{dataset}: {files} out of the folder; the targets are published, for example {short(listed.linked[0])!r}"
        )
    return notes


def publish_declared(
    declared: Dataset, *, source: SourceFolder, store: Store, progress: Progress = SILENT
) -> PublishResult:
    """Publish a folder as the declared version.

    Raise `DatasetError` if the folder's digests differ from the declaration, or the store has another version with the same number.
    """
    _require_no_secret(declared)
    with spool() as lines:
        plan = PackPlan(lines, most=source.part_bytes)
        _hash_files(source, source.paths(), plan)
        _require(declared, "content", plan.lines.content)
        manifest, uploaded = _upload(
            plan, mapped(lines), name=declared.title, source=source, store=store, progress=progress
        )
    _require(declared, "manifest", manifest)
    is_new = store.create(version_key(declared.name, declared.version), version_document(declared))
    if not is_new and (existing := read_version(store, declared.name, declared.version)) != declared.published:
        message = f"{declared.title} in {store.label} is another version: manifest {existing and existing.manifest}"
        raise DatasetError(
            f"{message}; expected {declared.manifest}",
            hint="publish it as the next version: a version is never replaced",
        )
    return PublishResult(dataset=declared, is_new=is_new, uploaded=uploaded)


def _require_no_secret(described: Described) -> None:
    """Raise `DatasetError` if the description contains a password or a key, because every reader of the store can see it."""
    name = described.name
    texts = {key: (getattr(described, key), _EDIT_HINT.format(key=key, name=name)) for key in ("source", "license")}
    if described.upstream:
        texts["upstream"] = (described.upstream.source, _IMPORT_HINT.format(name=name))
    for key, (text, hint) in texts.items():
        if reason := secret_by_content(text.encode()):
            raise DatasetError(f"the {key} of dataset {name} would be published, but {reason}", hint=hint)


def _hash_files(
    source: SourceFolder, paths: Sequence[str], plan: PackPlan, *, duplicates: ContentDuplicates | None = None
) -> None:
    """Hash all files, and assign them to packs in the order of `paths`."""

    def hash_some(first: int, stop: StopFlag) -> list[HashedFile]:
        hashed = []
        for path in paths[first : first + at_once]:
            stop.check()
            hashed.append(source.hash_file(path))
        return hashed

    threads = HashingThreads(files=len(paths[:_AT_ONCE]), size=source.size_of(paths[:_AT_ONCE]))
    at_once = _AT_ONCE if threads.count == 1 else 1
    for first, end in pairwise([0, *range(_AT_ONCE, len(paths), _BATCH), len(paths)]):
        threads.begin()
        some = [*chain.from_iterable(in_parallel(hash_some, range(first, end, at_once), threads=threads.count))]
        threads.end(files=len(some), size=sum(each.size for each in some))
        for hashed in some:
            plan.add(hashed)
            if duplicates is not None:
                duplicates.add(hashed.sha256)
    plan.close()


def _upload(
    plan: PackPlan, lines: bytes | mmap, *, name: str, source: SourceFolder, store: Store, progress: Progress
) -> tuple[str, int]:
    """Upload the packs of dataset `name` that the store lacks, then check and upload the manifest.

    Return the manifest's digest, and the number of uploaded bytes of packs.
    """
    progress.begin(f"new data of {name}", sum(new.size for new in plan.new))
    try:
        upload = _Upload(store=store, source=source, lines=lines, progress=progress)
        packs = in_parallel(upload.one, plan.new, threads=_UPLOADS)
    finally:
        progress.end()
    with spool() as file:
        file.writelines(plan.manifest(lines, [pack for pack, _ in packs]))
        raw = mapped(file)
        parse_manifest(raw)
        digest = digest_of_raw(raw)
        store.write(object_key(digest), file, sha256=digest)
    return digest, sum(size for _, size in packs)


def _require(declared: Dataset, key: str, actual: str) -> None:
    expected = getattr(declared, key)
    if actual != expected:
        raise DatasetError(
            f"dataset {declared.title}: its {key} is {actual}; expected {expected}, as declared",
            hint="its data differs from the declared data: compare the versions of its sources",
        )
