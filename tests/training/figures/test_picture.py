"""Pictures are drawn of samples of any kind."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.readers.test_readers import KINDS, folder
from tests.training.test_data import declare
from trainer.data.files import FolderFiles
from trainer.training.figures.picture import (
    PictureRow,
    _counted,
    _font,
    _in_turn,
    _width,
    _wrapped,
    class_text,
    drawn,
    numbered_note,
    picture_of,
)

FONT_FILE = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"
pytestmark = pytest.mark.torch
__all__ = ["folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_sample_can_be_drawn(folder: Path, kind: str) -> None:
    dataset = declare(reader=KINDS[kind], splits={"train": [0, 3], "val": [3, 4]})
    picture = picture_of(dataset, FolderFiles(folder))
    assert picture == picture_of(dataset, FolderFiles(folder))
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.width > 900, image.height > 200) == ("PNG", True, True)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 1


def test_every_class_is_shown_and_counted() -> None:
    labels = [0] * 40 + [1] * 20 + [2]
    assert _in_turn(labels) == [0, 40, 60, 1, 41, 2, 42, 3]
    assert _counted(labels, ("cats", "dogs", "")) == "cats (40), dogs (20), 2 (1)"
    assert _counted(range(100), ()) == "100 classes, 1 to 1 of each"


@pytest.mark.parametrize(
    "text", ["golden retriever as labrador retriever, 25%", "고양이고양이고양이고양이고양이", "x" * 90, "a b", ""]
)
def test_a_caption_stays_inside_its_cell(text: str) -> None:
    lines = _wrapped(text, 112, most=2)
    assert all(_width(line) <= 112 for line in lines)
    assert len(lines) <= 2
    shown = "".join(lines)
    complete = shown.replace(" ", "") == text.replace(" ", "")
    assert complete or shown.endswith("…")


@pytest.mark.skipif(not Path(FONT_FILE).exists(), reason="needs a font: apt-get install fonts-wqy-microhei")
def test_every_character_of_a_class_name_is_drawn() -> None:
    missing = drawing_of("\U0010fffe")
    assert all(drawing_of(letter) != missing for letter in "고양이猫头鹰貓頭鷹ウサギねこŁéαЖ→…")


def test_a_class_name_outside_the_font_is_replaced_by_its_number() -> None:
    names = ("cats", "ไทย", "", "cats ไทย", "1")
    assert [class_text(label, names) for label in range(6)] == ["cats", "1", "2", "3", "1", "5"]
    assert numbered_note(names).startswith("Classes 1, 3 are shown by number: the font ")
    assert numbered_note(("cats", "ไทย")).startswith("Class 1 is shown by number")
    assert numbered_note(("cats", "", "2")) == ""
    assert _wrapped("aไb", 112, most=1) == ["a?b"]


def test_a_note_is_drawn_below_the_samples() -> None:
    row = PictureRow(title="train", samples=[{"label": torch.tensor(1)}], captions=["1"])
    with Image.open(io.BytesIO(drawn([row]))) as plain, Image.open(io.BytesIO(drawn([row], note="Class 1"))) as noted:
        assert noted.height - plain.height == 15
        below = noted.crop((0, plain.height - 1, noted.width, noted.height))
        assert below.getextrema() != ((255, 255),) * 3
        assert (
            noted.crop((0, 0, plain.width, plain.height - 8)).tobytes()
            == plain.crop((0, 0, plain.width, plain.height - 8)).tobytes()
        )


@pytest.mark.skipif(not Path(FONT_FILE).exists(), reason="needs a font: apt-get install fonts-wqy-microhei")
def test_a_name_in_decomposed_unicode_is_drawn_composed() -> None:
    assert class_text(0, (unicodedata.normalize("NFD", "고양이"),)) == "고양이"
    assert _wrapped(unicodedata.normalize("NFD", "Ärger 개"), 112, most=1) == ["Ärger 개"]


def drawing_of(letter: str) -> bytes:
    return bytes(_font().getmask(letter))


def test_pictures_of_16_bits_and_transparent_pictures_are_rendered_visibly(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 128 * 257, dtype=np.uint16)).save(tmp_path / "1.png")
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "2.png")
    for name, mode, shown in (("1", "L", 128), ("2", "RGBA", 0xEE)):
        reader = {"kind": "images", "mode": mode}
        dataset = declare(reader=reader, splits={"train": {"files": [f"{name}.png"]}})
        with Image.open(io.BytesIO(picture_of(dataset, FolderFiles(tmp_path)))) as sheet:
            assert sheet.getpixel((60, 70)) == (shown,) * 3
