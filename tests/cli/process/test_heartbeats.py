"""Heartbeats of machines, in a real key-value store of torch."""

from __future__ import annotations

import pytest

from trainer.base.errors import RankError
from trainer.cli.nodes import NodePlace
from trainer.cli.process import heartbeats as module
from trainer.cli.process.heartbeats import SILENT, Heartbeats

distributed = pytest.importorskip("torch.distributed")
pytestmark = pytest.mark.torch


def machines(count: int) -> list[Heartbeats]:
    store = distributed.HashStore()
    return [Heartbeats(store, NodePlace(node=number, nodes=count, host="node0", port=29500)) for number in range(count)]


def test_a_silent_machine_is_named_by_node_0_and_a_silent_node_0_by_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: clock)
    zero, one, two = machines(3)
    for _ in range(2):
        for each in (one, two, zero):
            each.beat()
    clock += SILENT + 1
    for each in (one, zero, one):
        each.beat()
    one.check()
    with pytest.raises(RankError, match=r"^node 2 of 3 has not answered for 61 s$"):
        zero.check()
    clock += SILENT + 1
    with pytest.raises(RankError, match=r"^node 0 of 3 has not answered for 61 s$"):
        one.check()


def test_a_machine_that_has_not_arrived_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: clock)
    zero, _ = machines(2)
    zero.beat()
    clock += 10 * SILENT
    zero.check()


def test_one_machine_watches_nothing() -> None:
    alone = Heartbeats()
    alone.beat()
    alone.check()
