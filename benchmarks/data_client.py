"""The Reprise process that `benchmarks/data.py` times: one publish or fetch.

data_client.py publish STORE FOLDER DECLARED.json      data_client.py fetch STORE CACHE DECLARED.json [--folder | --read]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.base.document import parse_json
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Dataset, Draft
from trainer.data.fetch import fetch_dataset
from trainer.stores import open_store


def publish(store: str, folder: str, declared: str) -> None:
    """Publish a folder, and store the metadata that git would track."""
    from trainer.data.files import SourceFolder
    from trainer.data.publish import publish_dataset

    published = publish_dataset(
        Draft(name="bench", license="none", source="made"),
        source=SourceFolder(root=Path(folder)),
        store=open_store(store),
    )
    Path(declared).write_text(published.dataset.model_dump_json(), encoding="utf-8")


def fetch(store: str, cache: str, declared: str, *, also: str = "") -> None:
    """Fetch a dataset; then, if requested, export its folder, or read every byte as training does."""
    dataset = parse_json(Path(declared).read_bytes(), Dataset, where=declared)
    cached = fetch_dataset(dataset, cache=Cache(root=Path(cache)), open_store=lambda: open_store(store))
    if also == "--folder":
        cached.folder()
    if also == "--read":
        for path in cached.paths:
            cached.read(path)


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "publish":
        publish(*words)
    else:
        fetch(*words[:3], also="".join(words[3:]))
