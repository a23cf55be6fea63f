"""Batches of requests: which jobs share a call of the program, and how long a job waits for others."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

import pytest

pytest.importorskip("torch")

import torch

from trainer.models.serving.batching import Batcher

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.torch
HOUR: Final = 3600.0
MOST: Final = 8


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be advanced."""

    later = 0.0

    def time(self) -> float:
        return super().time() + self.later


@pytest.mark.parametrize("count", [1, 5])
def test_jobs_that_waited_during_a_call_are_run_together_and_do_not_wait_again(count: int) -> None:
    loop, is_called, is_free, sizes = Loop(), threading.Event(), threading.Event(), list[int]()

    def program(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        is_called.set()
        assert is_free.wait(60)
        return inputs

    async def served() -> None:
        batcher = Batcher(program, most=MOST, wait=HOUR, observe=sizes.append)

        def ask(number: int) -> asyncio.Task[dict[str, Tensor]]:
            return asyncio.create_task(batcher.outputs({"x": torch.full((1,), number)}))

        first = [ask(number) for number in range(MOST)]
        await asyncio.to_thread(is_called.wait, 60)
        second = [ask(number) for number in range(MOST, MOST + count)]
        await asyncio.sleep(0)
        loop.later += HOUR
        is_free.set()
        found = await asyncio.wait_for(asyncio.gather(*first, *second), 60)
        assert [int(each["x"]) for each in found] == [*range(MOST + count)]
        await batcher.close()

    try:
        loop.run_until_complete(served())
    finally:
        loop.close()
    assert sizes == [MOST, count]


def test_close_cancels_the_jobs_that_wait_and_the_job_that_runs() -> None:
    is_called, is_free = threading.Event(), threading.Event()

    def program(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        is_called.set()
        assert is_free.wait(60)
        return inputs

    async def served() -> list[bool]:
        batcher = Batcher(program, most=MOST, wait=0)
        jobs = [asyncio.create_task(batcher.outputs({"x": torch.zeros(count)})) for count in (1, 2, 3 * MOST)]
        await asyncio.to_thread(is_called.wait, 60)
        await batcher.close()
        jobs.append(asyncio.create_task(batcher.outputs({"x": torch.zeros(1)})))
        await asyncio.wait(jobs, timeout=60)
        is_free.set()
        return [each.cancelled() for each in jobs]

    assert asyncio.run(served()) == [True] * 4
