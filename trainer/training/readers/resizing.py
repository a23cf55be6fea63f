"""Resizing of a decoded picture to the declared size by stretching, cropping, padding or fitting.

An 8-bit picture is resized in 8 bits, as in Pillow and torchvision; a picture with more bits as float32, without rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from trainer.training.readers.exact_pixels import PictureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.reader import ImagesReader

_RGBA: Final = 4

Values = np.ndarray[Any, Any]


def resized(bands: tuple[Image.Image, ...], reader: ImagesReader) -> tuple[Image.Image, ...]:
    """Resize a picture, whole or as separate channels, to the declared size. Raise `PictureError` if no resize method is declared."""
    height, width = bands[0].height, bands[0].width
    if reader.size is None or (height, width) == reader.size:
        return bands
    if reader.resize is None:
        raise PictureError(
            f"has {height}x{width} pixels; expected {reader.size[0]}x{reader.size[1]}, the declared size",
            hint="--resize crop, pad or stretch resizes pictures to that size",
        )
    size = (reader.size[1], reader.size[0])
    is_rgba = len(bands) == _RGBA  # the colors of RGBA are premultiplied by alpha, as Pillow does for 8 bits
    parts = [
        _scaled(band, size, reader.resize) for band in (_multiplied(bands, np.asarray(bands[3])) if is_rgba else bands)
    ]
    if is_rgba:
        alpha = np.asarray(parts[3])
        parts = _multiplied(parts, np.divide(1, alpha, out=np.zeros_like(alpha), where=alpha > 0))
    return tuple(_padded(band, size, reader.fill) if reader.resize == "pad" else band for band in parts)


def _multiplied(bands: Sequence[Image.Image], factor: Values) -> list[Image.Image]:
    """Multiply the three color channels by `factor`; alpha is unchanged."""
    return [*(Image.fromarray(np.asarray(color) * factor) for color in bands[:3]), bands[3]]


def _scaled(image: Image.Image, target: tuple[int, int], how: str) -> Image.Image:
    """Resize with bilinear interpolation, antialiased if smaller. Sizes are (width, height), as in Pillow."""
    if how == "crop":  # the largest centered box with the target aspect ratio
        scale = min(image.width / target[0], image.height / target[1])
        left, top = (max(0.0, (whole - part * scale) / 2) for whole, part in zip(image.size, target, strict=True))
        box = (left, top, image.width - left, image.height - top)
        return image.resize(target, Image.Resampling.BILINEAR, box=box)
    if how != "stretch":  # the largest size with the same aspect ratio that fits, in whole pixels
        scale = min(target[0] / image.width, target[1] / image.height)
        target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(target, Image.Resampling.BILINEAR)


def _padded(image: Image.Image, target: tuple[int, int], fill: float) -> Image.Image:
    color = fill if image.mode == "F" else (round(fill * 255),) * len(image.getbands())
    sheet = Image.new(image.mode, target, color)
    sheet.paste(image, ((target[0] - image.width) // 2, (target[1] - image.height) // 2))
    return sheet
