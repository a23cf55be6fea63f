"""Documents in the first version of each stored format can always be read, and are written again byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.document import parse_json
from trainer.base.errors import DocumentError, ManifestError
from trainer.data.declaration import Dataset
from trainer.data.manifest import parse_manifest
from trainer.data.versions import version_document
from trainer.runs.register import RegisterEntry
from trainer.runs.seal import Published
from trainer.sweeps.document import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent / "golden"
READ: dict[str, Callable[[bytes], bytes]] = {
    "published-1.json": lambda text: parse_json(text, Published, where="golden").to_json(),
    "own-1.json": lambda text: parse_json(text, RegisterEntry, where="golden").model_dump_json().encode() + b"\n",
    "dataset-1.json": lambda text: version_document(parse_json(text, Dataset, where="golden")),
    "manifest-1.jsonl": lambda text: bytes(parse_manifest(text).raw),
    "sweep-1.json": lambda text: parse_json(text, Sweep, where="golden").to_json(),
}
"""How each document is read and written again; record, seal, claim and retest have their own tests."""


@pytest.mark.parametrize("name", READ)
def test_a_document_round_trips_byte_for_byte(name: str) -> None:
    text = (GOLDEN / name).read_bytes()
    assert READ[name](text) == text


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("harm", [b"", b"{", b"[]", b"null", b"\xff", b'{"format":"reprise.other/1"}'])
def test_another_document_in_its_place_is_rejected(name: str, harm: bytes) -> None:
    with pytest.raises((DocumentError, ManifestError)):
        READ[name](harm)


@pytest.mark.parametrize("name", READ)
def test_a_truncated_document_is_rejected(name: str) -> None:
    text = (GOLDEN / name).read_bytes()
    for cut in (len(text) // 3, len(text) // 2, len(text) - 3):
        with pytest.raises((DocumentError, ManifestError)):
            READ[name](text[:cut])


def test_the_version_names_its_manifest() -> None:
    version = json.loads((GOLDEN / "dataset-1.json").read_bytes())
    assert version["manifest"] == digest_of_bytes((GOLDEN / "manifest-1.jsonl").read_bytes())
    assert parse_json((GOLDEN / "dataset-1.json").read_bytes(), Dataset, where="golden").content == version["content"]


@pytest.mark.torch
def test_a_checkpoint_of_the_first_version_is_read(tmp_path: Path) -> None:
    import torch

    from trainer.training.resuming.checkpoint_file import read_checkpoint, write_checkpoint

    found = read_checkpoint(GOLDEN / "checkpoint-1.safetensors")
    whole = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(found["state_dict"]["w"], whole)
    assert torch.equal(found["state_dict"]["v"], whole.t())
    assert found["optimizer_states"][0]["big"] == 2**70
    assert found["loops"] == {"a": [1, None, True, "x", b"y", {1: "one"}], "set": {1, 2}}
    with (tmp_path / "again").open("wb") as file:
        write_checkpoint(file, found)
    assert (tmp_path / "again").read_bytes() == (GOLDEN / "checkpoint-1.safetensors").read_bytes()
