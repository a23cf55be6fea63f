"""Fetch the data of a training run: datasets, as a whole or during the run, and the file of its initial weights."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from trainer.cli.configuration import cache_folder, cache_limit, store_of_dataset
from trainer.cli.process.initial import weights_file
from trainer.cli.progress import transfer_progress
from trainer.data.cache.folder import Cache
from trainer.data.fetch import fetch_dataset
from trainer.runs.initial_weights import INITIAL
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trainer.cli.process.initial import Initial
    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.cache.version import CachedDataset
    from trainer.data.declaration import Dataset
    from trainer.training.assembly import FetchedDataset
    from trainer.training.initial_weights import WeightsFile

    Fetched = CachedDataset | StreamedDataset


def fetch_data(
    dataset: Dataset,
    *,
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
    as_folder: bool = False,
) -> Fetched:
    """Fetch all files of a dataset; one line reports the time and whether the files were in the cache.

    If the cache's limit is too small for the files, they are fetched during the run, when they are read, unless `as_folder` is set. `check`
    raises if the process must stop. Raise `DiskFullError` for a folder that does not fit into the cache.
    """
    start, cache, limit = monotonic(), Cache(root=cache_folder()), cache_limit()
    state = "in the cache, nothing fetched" if cache.has(dataset) else "fetched and verified"
    if limit is None:
        data: Fetched = fetch_dataset(dataset, cache=cache, open_store=store_of_dataset, progress=transfer_progress())
    else:
        data = _fetch_within(limit, dataset, cache, Patience(say=say, check=check), as_folder=as_folder)
        if data.is_streamed:
            state = f"{dataset.bytes / 1e6:,.1f} MB, fetched during the run: the cache's limit is {limit / 1e6:,.1f} MB"
    say(f"{dataset.title}: {state} ({monotonic() - start:.3f} s)")
    return data


def _fetch_within(limit: int, dataset: Dataset, cache: Cache, patience: Patience, *, as_folder: bool) -> Fetched:
    from trainer.data.cache.budget import Budget
    from trainer.data.cache.streamed import StreamSource
    from trainer.data.stream import open_dataset, open_folder

    budget = Budget(root=cache.root, limit=limit)
    # One try: threads read during the steps, and a retry of the S3 client draws from Python's global generator. `patience` retries instead.
    open_store = partial(store_of_dataset, tries=1)
    source = StreamSource(cache=cache, dataset=dataset, budget=budget, open_store=open_store)
    if as_folder:
        return open_folder(source, progress=transfer_progress())
    return open_dataset(source, progress=transfer_progress(), patience=patience)


@contextmanager
def fetching_ahead(datasets: Sequence[FetchedDataset]) -> Iterator[None]:
    """End the threads that fetch ahead at the end of the block."""
    from trainer.data.cache.streamed import StreamedDataset

    try:
        yield
    finally:
        for each in datasets:
            if isinstance(each.files, StreamedDataset):
                each.files.stop()


def initial_file(initial: Initial, attempt: Path, *, say: Callable[[str], None]) -> WeightsFile | None:
    """Return the file with the initial weights: the attempt's copy, or a file fetched from a dataset; `None` without initial weights."""
    from trainer.training.initial_weights import WeightsFile

    if initial.run is not None:
        return WeightsFile(path=attempt / INITIAL, title=initial.title, sha256=initial.run.sha256)
    if initial.dataset is not None:
        folder = fetch_data(initial.dataset, say=say, as_folder=True).folder()
        return WeightsFile(path=folder / weights_file(initial.dataset), title=initial.title)
    return None
