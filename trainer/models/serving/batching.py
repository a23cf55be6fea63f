"""Batches: the samples of requests that arrive within a short time are passed to the program in one call."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Tensors = dict[str, "Tensor"]
"""Named tensors `[samples, ...]`."""
_QUICK_SECONDS: Final = 0.001
"""A call that is expected to take less time runs in the event loop: passing it to a thread would take as long."""


@dataclass(frozen=True, slots=True, eq=False)
class _PendingSamples:
    """Samples that wait for their outputs."""

    inputs: Tensors
    count: int
    deadline: float
    """The time of the event loop until which the samples wait for others."""
    outputs: asyncio.Future[Tensors]

    @property
    def form(self) -> tuple[object, ...]:
        """The names, types and shapes of the inputs. Jobs of equal form can share a batch."""
        return tuple((name, each.dtype, *each.shape[1:]) for name, each in self.inputs.items())


class Batcher:
    """Runs one program on batches, one batch at a time. Create it in the event loop."""

    def __init__(
        self,
        program: Callable[[Tensors], Tensors],
        *,
        most: int,
        wait: float,
        observe: Callable[[int], object] = lambda _: None,
    ) -> None:
        """`program` gets at most `most` samples in a call; `observe` gets the number of samples of each call.

        A job waits at most `wait` seconds from its arrival for others; with 0, each job is its own call.
        """
        self._program, self._most, self._wait, self._observe = program, most, wait, observe
        self._queue: asyncio.Queue[_PendingSamples] = asyncio.Queue()
        self._next: _PendingSamples | None = None
        self._unresolved: set[asyncio.Future[Tensors]] = set()
        self._pace = math.inf  # CPU seconds for each value of the inputs in the last call
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="program")
        self._worker = asyncio.create_task(self._work())

    @property
    def waiting(self) -> int:
        """The number of jobs that wait for the program."""
        return self._queue.qsize() + (self._next is not None)

    async def outputs(self, inputs: Tensors) -> Tensors:
        """Return the outputs `[samples, ...]` for inputs that fit the program. Raise what the program raises for them."""
        count = len(next(iter(inputs.values())))
        if count <= self._most:
            return await self._add(inputs).outputs
        parts = [
            {name: each[first : first + self._most] for name, each in inputs.items()}
            for first in range(0, count, self._most)
        ]
        found = await asyncio.gather(*(job.outputs for job in [self._add(each) for each in parts]))
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    async def close(self) -> None:
        """Stop the worker and its thread. Jobs without outputs are cancelled, also those that are added later."""
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._pool.shutdown(wait=False, cancel_futures=True)
        for outputs in [*self._unresolved]:
            outputs.cancel()

    def _add(self, inputs: Tensors) -> _PendingSamples:
        count = len(next(iter(inputs.values())))
        loop = asyncio.get_running_loop()
        job = _PendingSamples(inputs, count, loop.time() + self._wait, loop.create_future())
        if self._worker.done():
            job.outputs.cancel()
            return job
        self._unresolved.add(job.outputs)
        job.outputs.add_done_callback(self._unresolved.discard)
        self._queue.put_nowait(job)
        return job

    async def _work(self) -> None:
        while True:
            jobs = [each for each in await self._collected() if not each.outputs.done()]
            for form in dict.fromkeys(each.form for each in jobs):
                await self._run([each for each in jobs if each.form == form])

    async def _collected(self) -> list[_PendingSamples]:
        """Return the next job, and the jobs that fit into its batch and already wait or arrive before its deadline."""
        first, self._next = self._next or await self._queue.get(), None
        jobs, count = [first], first.count
        while self._wait > 0 and count < self._most and (job := await self._another(first.deadline)):
            if count + job.count > self._most:
                self._next = job
                break
            jobs.append(job)
            count += job.count
        return jobs

    async def _another(self, deadline: float) -> _PendingSamples | None:
        """Return a job that already waits or arrives before `deadline`, a time of the event loop; `None` if there is no such job."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        if asyncio.get_running_loop().time() >= deadline:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                return await self._queue.get()
        return None

    async def _run(self, jobs: Sequence[_PendingSamples]) -> None:
        """Run jobs of one form in one call. If the call fails, run each job alone, so that one job cannot fail another."""
        try:
            found = await self._called(jobs)
        except Exception as fault:  # noqa: BLE001 - passed on to the request, which reports it
            if len(jobs) > 1:
                for each in jobs:
                    await self._run([each])
            elif not jobs[0].outputs.done():
                jobs[0].outputs.set_exception(fault)
            return
        first = 0
        for job in jobs:
            if not job.outputs.done():
                job.outputs.set_result({name: each[first : first + job.count] for name, each in found.items()})
            first += job.count

    async def _called(self, jobs: Sequence[_PendingSamples]) -> Tensors:
        inputs = jobs[0].inputs
        if len(jobs) > 1:
            inputs = {name: torch.cat([each.inputs[name] for each in jobs]) for name in inputs}
        self._observe(sum(each.count for each in jobs))
        numbers = sum(each.numel() for each in inputs.values())
        if self._pace * numbers > _QUICK_SECONDS:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, inputs, numbers)
        await asyncio.sleep(0)  # let other tasks of the event loop run between two calls
        return self._timed(inputs, numbers)

    def _timed(self, inputs: Tensors, numbers: int) -> Tensors:
        begin = time.thread_time()  # CPU time, since other processes may use the processor
        found = self._program(inputs)
        self._pace = (time.thread_time() - begin) / max(numbers, 1)
        return found
