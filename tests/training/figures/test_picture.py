"""A picture of samples: whatever they are, there is one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.training.readers.test_readers import KINDS, folder
from tests.training.test_data import declared
from trainer.training.figures.picture import _counted, _in_turn, picture_of
from trainer.training.readers.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
__all__ = ["folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_sample_can_be_drawn(folder: Path, kind: str) -> None:
    """A row for each split; a PNG, the same one twice."""
    dataset = declared(reader=KINDS[kind], splits={"train": [0, 3], "val": [3, 4]})
    picture = picture_of(dataset, Folder(folder))
    assert picture == picture_of(dataset, Folder(folder))
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.width > 900, image.height > 200) == ("PNG", True, True)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 1


def test_every_class_is_shown_and_counted() -> None:
    """Samples that are sorted by class show all classes all the same, by their names."""
    labels = [0] * 40 + [1] * 20 + [2]
    assert _in_turn(labels) == [0, 40, 60, 1, 41, 2, 42, 3]
    assert _counted(labels, ("cats", "dogs", "")) == "cats 40, dogs 20, 2 1"
    assert _counted(range(100), ()) == "100 classes, 1 to 1 of each"
