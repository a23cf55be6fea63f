"""The process that `benchmarks/streaming.py` starts: it writes the samples in the format of one library, or reads two epochs of them.

streaming_client.py write JOB      streaming_client.py read JOB

A job is JSON. `read` prints the passes as JSON. Imports are not timed; opening the dataset and starting workers is part of the first pass.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import time
import types
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `import streaming` must not find the benchmark

import torch

from trainer.training.readers.samples import padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

SEED: Final = 5
Batch = tuple["Tensor", "Tensor"]
"""Samples as uint8 `[batch, longest]`, padded with zeros, and their lengths as int64 `[batch]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The inputs of a process."""

    system: str
    folder: str
    """The folder of the samples to write, or the empty folder of the cache."""
    store: str
    endpoint: str
    shard: int = 0
    """The size of a shard, in bytes, if the format has shards."""
    declared: str = ""
    """The file with the declaration that Reprise writes and reads."""
    workers: int = 0
    limit: int | None = None
    """The limit of the cache, in bytes."""
    batch: int = 64
    samples: int = 0
    is_checked: bool = False
    """Whether a third pass, which is not timed, reads every byte."""


@dataclass(slots=True)
class Pass:
    """One epoch: its duration, and the sums that show that each sample was read once."""

    seconds: float = 0.0
    received: int = 0
    """Bytes over the loopback device."""
    cached: int = 0
    """Bytes of the cache on the disk; after the last pass only, because files are fetched ahead while the cache is measured."""
    samples: int = 0
    bytes: int = 0
    heads: int = 0
    """The sum of the first eight bytes of all samples, modulo 2**64."""
    crc: int = field(default=0)
    """The sum of the CRC-32 of all samples, of the checked pass only."""

    def add(self, batch: Batch, *, is_checked: bool) -> None:
        """Count a batch."""
        values, lengths = batch
        self.samples += len(lengths)
        self.bytes += int(lengths.sum())
        heads = values[:, :8].reshape(-1).view(torch.int64).sum()
        self.heads = (self.heads + int(heads)) % 2**64
        if is_checked:
            self.crc += sum(zlib.crc32(row[:size].numpy()) for row, size in zip(values, lengths.tolist(), strict=True))


class Reprise:
    """Reprise: packs and a manifest; the samples of a published dataset, through the loader of a run."""

    def __init__(self, job: Job) -> None:
        from trainer.data.cache.folder import Cache
        from trainer.training import data, readers

        self.job, self.data, self.readers, self.cache = job, data, readers, Cache(root=Path(job.folder))
        self.files: Any = None
        self.loader: Any = None
        importlib.import_module("trainer.stores.s3")  # it and MosaicML Streaming import boto3 at the first request

    def write(self) -> None:
        """Publish the folder, and store the declaration that git would track."""
        from trainer.data.declaration import Draft
        from trainer.data.files import SourceFolder
        from trainer.data.publish import publish_dataset
        from trainer.stores import open_store

        source = SourceFolder(root=Path(self.job.folder))
        splits = {"train": (0, self.job.samples), "val": (0, 1)}  # a run validates: one sample more
        draft = Draft(name="bench", license="none", source="made", splits=splits)
        published = publish_dataset(draft, source=source, store=open_store(self.job.store))
        Path(self.job.declared).write_text(published.dataset.model_dump_json(), encoding="utf-8")

    def open(self) -> None:
        """Open the dataset: fetch it, or begin to stream it; a window of the shuffle is an eighth of the samples."""
        from trainer.base.document import parse_json
        from trainer.data.cache.budget import Budget
        from trainer.data.cache.streamed import StreamSource
        from trainer.data.declaration import Dataset
        from trainer.data.fetch import fetch_dataset
        from trainer.data.stream import open_dataset
        from trainer.stores import open_store

        def store() -> Any:
            return open_store(self.job.store)

        declared = parse_json(Path(self.job.declared).read_bytes(), Dataset, where=self.job.declared)
        if self.job.limit is None:
            self.files = fetch_dataset(declared, cache=self.cache, open_store=store)
        else:
            budget = Budget(root=self.cache.root, limit=self.job.limit)
            source = StreamSource(cache=self.cache, dataset=declared, budget=budget, open_store=store)
            self.files = open_dataset(source)
        samples = self.readers.open_samples(declared, self.files)
        run = self.data.RunData(
            declared,
            samples,
            batch_size=self.job.batch,
            seed=SEED,
            workers=self.job.workers,
            shuffle_window=max(1, self.job.samples // 8),
        )
        self.loader = run.train_dataloader()

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        self.loader.batch_sampler.sampler.set_epoch(epoch)
        for batch in self.loader:
            yield batch["bytes"], batch["length"]

    def close(self) -> None:
        """End the threads that fetch ahead."""
        if self.files is not None and self.files.is_streamed:
            self.files.stop()


class Mosaic:
    """MosaicML Streaming: MDS shards."""

    def __init__(self, job: Job) -> None:
        os.environ["S3_ENDPOINT_URL"] = job.endpoint
        without_init("streaming")
        importlib.import_module("boto3")
        self.job, self.base = job, importlib.import_module("streaming.base")

    def write(self) -> None:
        """Write shards, and upload them."""
        out = f"{self.job.folder}.mds"
        with self.base.MDSWriter(out=out, columns={"bytes": "bytes"}, size_limit=self.job.shard) as writer:
            for body in bodies(self.job.folder):
                writer.write({"bytes": body})
        upload(out, self.job)

    def open(self) -> None:
        """Open the dataset; a block of the shuffle is an eighth of the samples."""
        dataset = self.base.StreamingDataset(
            remote=self.job.store,
            local=self.job.folder,
            cache_limit=self.job.limit,
            shuffle=True,
            shuffle_seed=SEED,
            shuffle_block_size=max(1, self.job.samples // 8),
            batch_size=self.job.batch,
        )
        self.loader = self.base.StreamingDataLoader(dataset, collate_fn=from_dicts, **loader_options(self.job))

    def batches(self, epoch: int) -> Iterator[Batch]:  # noqa: ARG002 - the dataset counts the epochs
        """Yield the batches of the next epoch."""
        yield from self.loader

    def close(self) -> None:
        """Do nothing: the dataset ends its threads when it is deleted."""


class LitData:
    """LitData: chunks."""

    def __init__(self, job: Job) -> None:
        self.job, self.litdata = job, importlib.import_module("litdata")
        self.streaming = importlib.import_module("litdata.streaming")
        options = importlib.import_module("litdata.streaming.downloader")._OBSTORE_CLIENT_OPTIONS  # noqa: SLF001 - LitData has no public option for it
        options["allow_http"] = True  # by default, only https addresses are allowed

    def write(self) -> None:
        """Write chunks, and upload them."""
        out = f"{self.job.folder}.lit"
        cache = self.streaming.Cache(out, chunk_bytes=self.job.shard)
        for number, body in enumerate(bodies(self.job.folder)):
            cache[number] = body
        cache.done()
        cache.merge()
        upload(out, self.job)

    def open(self) -> None:
        """Open the dataset."""
        dataset = self.litdata.StreamingDataset(
            input_dir=self.job.store,
            cache_dir=self.job.folder,
            max_cache_size=self.job.limit,
            shuffle=True,
            seed=SEED,
            storage_options={"endpoint_url": self.job.endpoint},
        )
        self.loader = self.litdata.StreamingDataLoader(dataset, collate_fn=padded, **loader_options(self.job))

    def batches(self, epoch: int) -> Iterator[Batch]:  # noqa: ARG002 - the loader counts the epochs
        """Yield the batches of the next epoch."""
        yield from self.loader

    def close(self) -> None:
        """Do nothing: the loader ends its threads after each epoch."""


SYSTEMS: Final[dict[str, type[Reprise | Mosaic | LitData]]] = {"reprise": Reprise, "mosaic": Mosaic, "litdata": LitData}


def from_dicts(samples: Sequence[dict[str, bytes]]) -> Batch:
    """Return samples of MosaicML Streaming as a batch."""
    return padded([sample["bytes"] for sample in samples])


def loader_options(job: Job) -> dict[str, Any]:
    """Return the options of a torch loader that Reprise uses too."""
    return {"batch_size": job.batch, "num_workers": job.workers, "persistent_workers": job.workers > 0}


def without_init(name: str) -> None:
    """Make a package importable without its `__init__`: that of `streaming` imports torchvision, which needs torch for CUDA."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        sys.exit(f"bench: the package {name} is not installed\n  -> scripts/bench streaming")
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package


def bodies(folder: str) -> Iterator[bytes]:
    """Yield the contents of the files, in the order of their paths."""
    return (path.read_bytes() for path in sorted(Path(folder).rglob("*.png")))


def upload(folder: str, job: Job) -> None:
    """Upload the files of a folder."""
    import boto3

    bucket, _, prefix = job.store.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=job.endpoint)
    for path in sorted(Path(folder).iterdir()):
        client.upload_file(str(path), bucket, f"{prefix}/{path.name}")


def received() -> int:
    """Return the bytes over the loopback device since boot."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if "lo:" in line).split(":")[1].split()[0])


def disk_usage(folder: Path) -> int:
    """Return the bytes of a folder on the disk."""
    size = 0
    for above, _, names in os.walk(folder):
        for path in (Path(above), *(Path(above, name) for name in names)):
            with suppress(FileNotFoundError):  # a thread of the library may still evict
                size += path.lstat().st_blocks * 512
    return size


def read(job: Job) -> list[Pass]:
    """Read a cold and a warm epoch; then, if requested, an epoch of which every byte is checked."""
    system = SYSTEMS[job.system](job)
    found = []
    for epoch in range(3 if job.is_checked else 2):
        one, moved, start = Pass(), received(), time.perf_counter()
        if epoch == 0:
            system.open()
        count(one, system.batches(epoch), is_checked=epoch == 2)  # noqa: PLR2004 - the third pass
        one.seconds, one.received = time.perf_counter() - start, received() - moved
        found.append(one)
    found[-1].cached = disk_usage(Path(job.folder))
    system.close()
    return found


def count(one: Pass, batches: Iterable[Batch], *, is_checked: bool) -> None:
    """Count all batches."""
    for batch in batches:
        one.add(batch, is_checked=is_checked)


if __name__ == "__main__":
    verb, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    if verb == "write":
        SYSTEMS[job.system](job).write()
    else:
        print(json.dumps([asdict(one) for one in read(job)]))
