"""Levels of determinism: operations that torch rejects are named."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from trainer.base.errors import MachineError
from trainer.settings.determinism import Level
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import apply_level, require_avx2, translated, warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.torch


@pytest.fixture
def strict() -> Iterator[None]:
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.usefixtures("strict")
def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))
    result = translated(caught.value)
    assert result is not None
    assert result.message == "put_ has no deterministic kernel, but determinism is on"
    assert "--determinism off" in str(result.hint)


def test_other_failures_are_left_alone() -> None:
    assert translated(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_a_message_that_merely_mentions_cublas_is_another_failure() -> None:
    """An exception that prints the whole environment has such a message."""
    assert translated(RuntimeError("environ({'CUBLAS_WORKSPACE_CONFIG': ':4096:8'}) no deterministic kernel")) is None
    message = "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or ..."
    result = translated(RuntimeError(message))
    assert result is not None
    assert result.message.startswith("a matrix product of cuBLAS has no deterministic kernel")


def test_a_process_without_the_variables_is_rejected() -> None:
    """Libraries may have read the variables already, so setting them now would have no effect."""
    with pytest.raises(MachineError, match="was not started for determinism machine"):
        apply_level(determinism=Level.MACHINE, threads=97, precision="32-true")


def test_the_warm_up_draws_no_random_number() -> None:
    before = torch.random.get_rng_state()
    warm_up()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_seed_follows_from_its_position() -> None:
    """The number is part of the format of a run: it must never change."""
    assert derived(0, "step", 1, 2, 0) == 7611477399854959732


def test_all_generators_follow_the_seed() -> None:

    def drawn() -> tuple[float, float, float]:
        seed_all(derived(1, "here"))
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002, S311 - the global generators are tested

    assert drawn() == drawn()


def test_a_cpu_without_avx2_is_not_portable() -> None:
    require_avx2("AVX2")
    with pytest.raises(MachineError, match="expects AVX2"):
        require_avx2("DEFAULT")
