"""The experiment with its own reader in docs/how-to/datasets.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from trainer.data.declaration import Draft, declared
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.reader import LinesReader
from trainer.stores import open_store

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]

DOCUMENT: Final = Path(__file__).parents[2] / "docs/how-to/datasets.md"


def test_the_documents_experiment_trains_and_no_worker_changes_a_bit(checkout: Checkout, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (checkout.root / "mine.py").write_text(found[1])
    (tmp_path / "topics.txt").write_text("".join(f"line {number} of the manual\n" for number in range(60)))
    splits = {"train": (0, 40), "val": (40, 50), "test": (50, 60)}
    draft = Draft(name="topics", splits=splits, reader=LinesReader(kind="lines", file="topics.txt"))
    published = publish_dataset(draft, source=SourceFolder(root=tmp_path), store=open_store(str(checkout.store)))
    (checkout.root / "datasets/topics.toml").write_text(declared(published.dataset))
    weights = []
    for workers in ("0", "1"):
        code, _, err = checkout.train("--exp", "mine.py", "--max-epochs", "2", "--workers", workers)
        assert code == 0, err
        weights.append(checkout.last()[1].outcome.weights)
    assert weights[0] == weights[1]
    assert weights[0] is not None
