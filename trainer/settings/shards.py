"""Shards: the parts of each batch, whose gradients are summed in a fixed order on any number of devices.

With the strategy `fsdp` each device has one shard and a part of the parameters, and the number of devices is an input of the run.
"""

from __future__ import annotations

from typing import Final

from trainer.base.errors import SettingError

FSDP: Final = "fsdp"
"""The strategy with distributed parameters."""
SUM: Final = "tree/1"
"""The name of the order of the sums, in records: a balanced binary tree over the shards."""


def shards_of(shards: int | None, *, devices: int) -> int:
    """Return the number of shards: by default one for each device.

    >>> shards_of(None, devices=2), shards_of(8, devices=2)
    (2, 8)
    """
    return devices if shards is None else shards


def require_shards(shards: int | None, *, devices: int, strategy: str | None = None) -> None:
    """Raise `SettingError` unless the shards are a power of two that the devices share equally.

    With `fsdp`, also raise it unless there are two or more devices with one shard each.
    """
    if strategy == FSDP:
        _require_one_each(shards, devices=devices)
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


def _require_one_each(shards: int | None, *, devices: int) -> None:
    if shards is not None and shards != devices:
        message = f"setting strategy is {FSDP} with {shards} shards and --devices {devices}; expected one shard for each device"
        raise SettingError(
            message, hint=f"use --devices {shards}: a result with {FSDP} depends on the number of devices"
        )
    if devices == 1:
        message = f"setting strategy is {FSDP}, which distributes the parameters over devices, but devices is 1"
        raise SettingError(message, hint="use --devices 2 or more, or omit --strategy")


def require_whole_shards(batch_size: int, shards: int) -> None:
    """Raise `SettingError` unless a batch has the same number of samples for each shard."""
    if batch_size % shards:
        message = f"setting batch_size is {batch_size}; {shards} shards cannot share it equally"
        raise SettingError(message, hint=f"use a --batch-size that {shards} divides")
