"""Pictures: a sample is one file, decoded by Pillow.

    image   float32 from 0 to 1, or uint8 from 0 to 255; [channels, height, width], 1, 3 or 4 channels, depending on `mode`
    label   int64 []; the class number

Each step of the decoding is exact or documented in docs/how-to/datasets.md, and bit-identical with the same release of Pillow, which the
run's lock pins. A picture with ambiguous values is rejected with an error that names the file. Pillow reduces 16-bit colors to 8 bits,
ignores the full scale that some files state, and drops channels without a mode: `trainer.training.readers.exact_pixels` reads the exact
values, or rejects the picture.
"""

from __future__ import annotations

import codecs
import io
import re
import struct
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from trainer.base.errors import DatasetError
from trainer.data.pictures import find_pictures
from trainer.data.reader import MOST_PIXELS
from trainer.data.splits import Layout
from trainer.training.readers.exact_pixels import (
    FORMATS,
    PictureError,
    WideValues,
    fourth_bytes_differ,
    grays_of_palette,
    no_such_color,
    require_clear,
    wide_values,
)
from trainer.training.readers.resizing import resized
from trainer.training.readers.samples import FileSamples, Pick, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.declaration import Described
    from trainer.data.files import Files
    from trainer.data.reader import ImagesReader
    from trainer.training.readers.samples import Piece


_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GRAY: Final = {"1", "L"}
_COLOR: Final = {"RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_ALPHA: Final = {"LA", "La", "PA", "RGBA", "RGBa"}
_SHORT_PALETTES: Final = {"PNG", "BMP", "DIB", "GIF"}
"""Formats whose palettes may have fewer colors than pixel values."""
_LUMA: Final = tuple(np.float32(part) for part in (0.299, 0.587, 0.114))
"""ITU-R 601-2, as in Pillow."""

Values = np.ndarray[Any, Any]


def decode_pixels(body: memoryview | bytes, reader: ImagesReader, *, where: str) -> Values:
    """Decode a picture as declared: uint8 or float32 `[channels, height, width]`. Raise `DatasetError`, naming the file as `where`."""
    try:
        with warnings.catch_warnings():  # Pillow warns about unused metadata, and about sizes, which are checked here
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=FORMATS) as image:
                return _decoded(image, body, reader)
    except PictureError as fault:
        raise DatasetError(f"{where} {fault}", hint=fault.hint) from fault
    except Exception as fault:
        # A damaged picture can raise almost any exception: SyntaxError, RuntimeError, struct.error, IndexError, MemoryError.
        hint = detect_format(body)[1]
        raise DatasetError(f"{where} cannot be decoded as a picture: {_reason(fault, body)}", hint=hint) from fault


def _decoded(image: Image.Image, body: memoryview | bytes, reader: ImagesReader) -> Values:
    _check_head(image, reader)
    require_clear(image, body, drop=reader.alpha == "drop")
    if image.format in {"BMP", "DIB"} and reader.alpha != "drop" and fourth_bytes_differ(image, body):
        sentence = "is a 32-bit BMP without a stated alpha channel, and its fourth bytes are not all equal"
        raise PictureError(
            sentence, hint="--alpha drop ignores the fourth bytes; if they are transparency, write the picture as PNG"
        )
    wide = wide_values(image, body, white=reader.white)
    bands = (_narrow_band(image, body, reader),) if wide is None else _wide_bands(image, wide, reader)
    return _as_declared(resized(bands, reader), reader)


def _check_head(image: Image.Image, reader: ImagesReader) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        sentence = f"has {height}x{width} pixels; expected at most {MOST_PIXELS:,} in one picture"
        raise PictureError(sentence, hint="split it into smaller pictures, and publish a new version")
    # The other frames of an MPO are previews of the first frame.
    if reader.frames is None and image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise PictureError(
            f"has {frames:,} frames; expected one",
            hint="--frames first reads the first of each file; otherwise save each frame as a file",
        )


def _narrow_band(image: Image.Image, body: memoryview | bytes, reader: ImagesReader) -> Image.Image:
    """Return a picture of 8 bits per channel, upright, in the declared mode."""
    if reader.white is not None:
        raise PictureError(
            f"has 8 bits per channel (mode {image.mode}); the declared white, {reader.white:g}, is for pictures with more bits",
            hint="remove --white, or publish the two kinds as two datasets",
        )
    color, alpha = _split(_upright(_loaded(image, body), image), bits=body[24] if image.format == "PNG" else 8)
    if reader.mode == "RGBA":
        whole = color.convert("RGB")
        whole.putalpha(alpha or Image.new("L", whole.size, 255))
        return whole
    if alpha is not None and alpha.getextrema()[0] != 255 and reader.alpha != "drop":  # noqa: PLR2004 - opaque
        ground = Image.new(color.mode, color.size, _ground(image, reader))
        color = Image.composite(color, ground, alpha)
    return _converted(color, reader.mode)


def _loaded(image: Image.Image, body: memoryview | bytes) -> Image.Image:
    """Return the picture with loaded pixels. Raise `PictureError` if a color is not in the palette; Pillow would read it as black."""
    if image.format in {"BMP", "DIB"} and (grays := grays_of_palette(image, body)):
        return grays
    count = _colors(image)
    image.load()
    if image.mode == "P" and count is not None:
        hidden = image.info.get("transparency")
        used = [number for number, pixels in enumerate(image.histogram()) if pixels and number != hidden]
        if used and used[-1] >= count:
            raise no_such_color(used[-1], count)
    return image


def _colors(image: Image.Image) -> int | None:
    """Return the number of colors in the palette, before Pillow extends it to 256; None if the format has no short palettes."""
    if image.format not in _SHORT_PALETTES:
        return None
    palette = image.palette
    return 0 if palette is None else len(palette.palette) // (4 if palette.rawmode == "BGRX" else 3)


def _split(image: Image.Image, *, bits: int) -> tuple[Image.Image, Image.Image | None]:
    """Return the gray or color channels, and alpha or None. Raise `PictureError` if the mode is not supported."""
    if image.mode in {*_GRAY, "RGB"} and "transparency" in image.info:
        return _keyed(image, bits=bits)
    if image.mode in {"LA", "La"}:
        whole = _converted(image, "LA")
        return whole.getchannel("L"), whole.getchannel("A")
    if image.mode in _ALPHA or (image.mode == "P" and image.has_transparency_data):
        whole = _converted(image, "RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    if image.mode in _GRAY:
        return _converted(image, "L"), None
    if image.mode == "P" or image.mode in _COLOR:
        return _converted(image, "RGB"), None
    raise PictureError(f"has pixel mode {image.mode}, which is not supported", hint="convert it to RGB or grayscale")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _keyed(image: Image.Image, *, bits: int) -> tuple[Image.Image, Image.Image]:
    """Return the picture, and an alpha channel that makes the color in the tRNS chunk of a PNG transparent.

    The chunk uses the bit depth of the file.
    """
    most = (1 << bits) - 1
    key = image.info["transparency"]
    keys = [(part & most) * 255 // most for part in (key if isinstance(key, tuple) else (key,))]
    color = _converted(image, "RGB" if image.mode == "RGB" else "L")
    values = np.asarray(color).reshape(color.height, color.width, -1)
    return color, Image.fromarray(np.where((values == keys).all(axis=2), 0, 255).astype(np.uint8))


def _ground(image: Image.Image, reader: ImagesReader) -> str:
    """Return the background color. Raise `PictureError` if no color is declared."""
    if reader.alpha is None:
        raise PictureError(
            f"has transparent pixels (mode {image.mode}); mode {reader.mode} has no channel for them",
            hint="--alpha white or black blends it with that color, --alpha drop ignores transparency, --mode RGBA keeps it",
        )
    return reader.alpha


def _wide_bands(image: Image.Image, wide: WideValues, reader: ImagesReader) -> tuple[Image.Image, ...]:
    """Return the channels of a picture with more than 8 bits as float32 from 0 to 1, upright, in the declared mode."""
    color, alpha = wide.color, wide.alpha
    if reader.mode != "RGBA" and alpha is not None and alpha.min() < 1 and reader.alpha != "drop":
        below = np.float32(_ground(image, reader) == "white")
        color = color * alpha[:, :, None] + below * (1 - alpha[:, :, None])
    planes = [color[:, :, band] for band in range(color.shape[2])]
    if reader.mode == "L" and len(planes) > 1:
        planes = [planes[0] * _LUMA[0] + planes[1] * _LUMA[1] + planes[2] * _LUMA[2]]
    elif reader.mode != "L":
        planes = planes if len(planes) > 1 else planes * 3
    if reader.mode == "RGBA":
        planes.append(np.ones_like(planes[0]) if alpha is None else alpha)
    return tuple(_upright(Image.fromarray(np.ascontiguousarray(plane)), image) for plane in planes)


def _upright(image: Image.Image, origin: Image.Image) -> Image.Image:
    """Rotate or flip a picture by the EXIF orientation of `origin`; Pillow has already done so for TIFF."""
    turn = _TURNS.get(origin.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _as_declared(bands: tuple[Image.Image, ...], reader: ImagesReader) -> Values:
    if bands[0].mode == "F":
        values: Values = np.clip(np.stack([np.asarray(band) for band in bands]), 0, 1)
        return values if reader.dtype == "float32" else np.rint(values * 255).astype(np.uint8)
    pixels: Values = np.array(bands[0]).reshape(bands[0].height, bands[0].width, -1)
    whole: Values = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return whole if reader.dtype == "uint8" else whole.astype(np.float32) / np.float32(255)


def _reason(fault: Exception, body: memoryview | bytes) -> str:
    if not len(body):
        return "the file is empty"
    if isinstance(fault, Image.DecompressionBombError):
        return f"it has more than {MOST_PIXELS:,} pixels"
    if isinstance(fault, UnidentifiedImageError) and bytes(body[:2]) in {b"II", b"MM"}:
        return "Pillow does not support TIFF with these channels, bits or values"
    if isinstance(fault, UnidentifiedImageError):
        kind = detect_format(body)[0] or "another format, or a damaged header"
        return f"found {kind}; expected one of {', '.join(FORMATS)}"
    if isinstance(fault, EOFError | IndexError | AssertionError | struct.error):
        return "the file ends too early, or is damaged"
    return f"{fault}" or type(fault).__name__


_REPLACE: Final = "replace or remove the file, and publish a new version"
_START: Final = 512
"""Number of bytes at the start of a file that are examined."""
_CONVERT: Final = "write it as PNG or JPEG, and publish a new version"
_KNOWN: Final = (
    (rb"version https://git-lfs", "a Git LFS pointer instead of the file", "git lfs pull, then publish again"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "HEIC or HEIF", _CONVERT),
    (rb"(?i)\s*(<!doctype html|<html)", "an HTML page", "download the picture itself, and publish a new version"),
    (rb"(?i)(\s|<[?!][^>]*>)*<svg", "SVG, which has no pixels", "render it as PNG, and publish a new version"),
    (rb".{128}DICM", "DICOM", "write it as 16-bit PNG, or publish arrays (--array)"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (rb"%PDF", "PDF", _CONVERT),
    (rb"8BPS", "a Photoshop file", _CONVERT),
    (rb"\x00\x00\x01\x00", "a Windows icon", _CONVERT),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf", "an archive", "unpack it, and publish a new version"),
    (rb"\x93NUMPY", "a NumPy array", "publish arrays (--array)"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL", _CONVERT),
    (rb"\x00{64}", "only zeros, as after an interrupted copy", _REPLACE),
)
"""A pattern of the first bytes, the name of the format, and the hint."""


def detect_format(body: memoryview | bytes) -> tuple[str, str]:
    """Return the name of the format and a hint; the name is empty if the format is unknown."""
    start = bytes(body[:_START])
    for mark, name, hint in _KNOWN:
        if re.match(mark, start, re.DOTALL):
            return name, hint
    with suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
        if all(letter.isprintable() or letter in "\t\r\n" for letter in text):
            return "text", _REPLACE
    return "", _REPLACE


class PictureSamples(FileSamples):
    """Pictures and their classes, in the order of their paths."""

    def __init__(self, reader: ImagesReader, files: Files, *, declared: Described) -> None:
        """Find the pictures and their classes. Raise `DatasetError` if no picture exists, or if a picture has no class."""
        table = None if reader.labels is None else bytes(files.read(reader.labels))
        self._reader = reader
        self._pictures = find_pictures(reader, files.paths, table, declared=declared)
        super().__init__(files, Layout(count=len(self._pictures.files), files=self._pictures.files))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, by number."""
        return self._pictures.classes

    def labels(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the class numbers of the pictures `rows`, from the folders or the table of labels."""
        return [self._pictures.labels[row] for row in rows]

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the picture's file."""
        path = self._layout.files[pick.index]
        return [(self._files, path, 0, self._files.size(path))]

    def sample(self, pick: Pick) -> Sample:
        """Decode one picture."""
        path = self._layout.files[pick.index]
        pixels = decode_pixels(self._files.read(path), self._reader, where=path)
        return {"image": torch.from_numpy(pixels), "label": torch.tensor(self._pictures.labels[pick.index])}
