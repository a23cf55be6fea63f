"""One seed for every generator."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch", reason="needs torch, an extra of Linux on x86_64")
np = pytest.importorskip("numpy")

from trainer.training.determinism.seeds import derived, seed_all  # noqa: E402 - only if torch is installed

pytestmark = pytest.mark.torch


def test_each_generator_is_seeded_as_its_own_library_would() -> None:
    value = derived(0, "step", 1, 2, 0)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)
    expected = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: S311
    seed_all(value)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == expected  # noqa: S311
