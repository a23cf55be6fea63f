"""Resizing of a decoded picture to the declared size by stretching, cropping, padding or fitting.

An 8-bit picture is resized in 8 bits, as in Pillow and torchvision; a picture with more bits as float32, without rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from trainer.training.readers.exact_pixels import PictureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.reader import Images

_RGBA: Final = 4


def resized(bands: tuple[Image.Image, ...], reader: Images) -> tuple[Image.Image, ...]:
    """Resize a picture, whole or as separate channels, to the declared size. Raise `PictureError` if no resize method is declared."""
    height, width = bands[0].height, bands[0].width
    if reader.size is None or (height, width) == reader.size:
        return bands
    if reader.resize is None:
        raise PictureError(
            f"has {height}x{width} pixels; expected {reader.size[0]}x{reader.size[1]}, the declared size",
            hint="--resize crop, pad or stretch brings pictures to the size",
        )
    wanted = (reader.size[1], reader.size[0])
    parts = [_scaled(band, wanted, reader.resize) for band in _weighted(bands)]
    scaled = _unweighted(parts)
    return tuple(_padded(band, wanted, reader.fill) for band in scaled) if reader.resize == "pad" else scaled


def _weighted(bands: tuple[Image.Image, ...]) -> tuple[Image.Image, ...]:
    """Premultiply the colors of RGBA by alpha, as Pillow does for 8 bits."""
    if len(bands) != _RGBA:
        return bands
    *colors, alpha = map(np.asarray, bands)
    return (*(Image.fromarray(color * alpha) for color in colors), bands[3])


def _unweighted(bands: Sequence[Image.Image]) -> tuple[Image.Image, ...]:
    if len(bands) != _RGBA:
        return tuple(bands)
    *colors, alpha = map(np.asarray, bands)
    share = np.divide(1, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    return (*(Image.fromarray(color * share) for color in colors), bands[3])


def _scaled(image: Image.Image, wanted: tuple[int, int], how: str) -> Image.Image:
    """Resize with bilinear interpolation, antialiased if smaller. Sizes are (width, height), as in Pillow."""
    if how == "crop":
        return image.resize(wanted, Image.Resampling.BILINEAR, box=_center(image.size, wanted))
    size = wanted if how == "stretch" else _inside(image.size, wanted)
    return image.resize(size, Image.Resampling.BILINEAR)


def _padded(image: Image.Image, wanted: tuple[int, int], fill: float) -> Image.Image:
    color = fill if image.mode == "F" else (round(fill * 255),) * len(image.getbands())
    sheet = Image.new(image.mode, wanted, color)
    sheet.paste(image, ((wanted[0] - image.width) // 2, (wanted[1] - image.height) // 2))
    return sheet


def _center(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centered box with the wanted aspect ratio: left, top, right, bottom."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    left, top = (max(0.0, (whole - part * scale) / 2) for whole, part in zip(size, wanted, strict=True))
    return (left, top, size[0] - left, size[1] - top)


def _inside(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size with the same aspect ratio that fits, in whole pixels."""
    scale = min(wanted[0] / size[0], wanted[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
