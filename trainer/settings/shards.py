"""Shards: the parts of every batch whose gradients are summed in one order, however many devices compute them."""

from __future__ import annotations

from typing import Final

from trainer.base.errors import SettingError

SUM: Final = "tree/1"
"""The name of the order of the sums, in records: a balanced binary tree over the shards."""


def shards_of(shards: int | None, *, devices: int) -> int:
    """Return the number of shards: by default one for each device.

    >>> shards_of(None, devices=2), shards_of(8, devices=2)
    (2, 8)
    """
    return devices if shards is None else shards


def require_shards(shards: int | None, *, devices: int) -> None:
    """Raise `SettingError` unless the shards are a power of two, and the same number for each device."""
    if shards is None:
        if devices & (devices - 1):
            message = f"setting devices is {devices}; gradients are summed over a power of two of shards"
            raise SettingError(message, hint="use --devices 1, 2, 4, 8, ...")
        return
    if shards & (shards - 1):
        message = f"setting shards is {shards}; expected a power of two: 1, 2, 4, 8, ..."
        raise SettingError(message, hint=f"use --shards {1 << shards.bit_length()}")
    if shards % devices:
        message = f"setting shards is {shards}, which {devices} devices cannot share equally"
        raise SettingError(message, hint=f"use a number of devices that divides {shards}")


def require_whole_shards(batch_size: int, shards: int) -> None:
    """Raise `SettingError` unless a batch has the same number of samples for each shard."""
    if batch_size % shards:
        message = f"setting batch_size is {batch_size}; {shards} shards cannot share it equally"
        raise SettingError(message, hint=f"use a --batch-size that {shards} divides")
