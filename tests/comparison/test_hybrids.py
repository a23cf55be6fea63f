"""Hybrid runs: the differences that can be swapped, and the inputs of a hybrid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.comparison.compared import make_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import RunError
from trainer.comparison.attribution import NONE, RunInputs, Swap, hybrid, possible_swaps, unswappable
from trainer.runs.record import DatasetIngredient, Determinism, Device, identity_of
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"seed": 0, "learning_rate": 0.001, "dataset": "dots"}
DOTS = DatasetIngredient(version=1, content=digest_of_bytes(b"dots"))


def make_side(runs: Path, *, code: str = "x = 1\n", settings: dict[str, Any] | None = None, **other: Any) -> RunInputs:
    """Return the inputs of a run with `settings`: its record and its verified source."""
    chosen = SETTINGS | (settings or {})
    found = make_run(runs, code=code, settings=chosen, **({"datasets": {"dots": DOTS}} | other))
    assert found.folder
    return RunInputs(
        record=found.record, bundle=load_bundle(found.folder / ARCHIVE, digest=found.record.ingredients.source)
    )


def test_every_swappable_difference_is_listed(tmp_path: Path) -> None:
    a = make_side(tmp_path / "runs")
    layers, determinism = [digest_of_bytes(b"other")], Determinism(level="machine", threads=1)
    b = make_side(
        tmp_path / "runs",
        code="x = 2\n",
        settings={"learning_rate": 0.1, "new": 1},
        layers=layers,
        determinism=determinism,
    )
    settings = [Swap("setting", name) for name in ("learning_rate", "new", "threads")]
    assert [*possible_swaps(a, b, images=True)] == [*settings, Swap("source"), Swap("image")]
    assert [*possible_swaps(a, b, images=False)] == [*settings, Swap("source")]
    assert [line.partition(":")[0] for line in unswappable(a, b, images=False)] == ["image"]
    assert not [*possible_swaps(a, a, images=True)]


def test_unswappable_differences_are_listed(tmp_path: Path) -> None:
    a = make_side(tmp_path / "runs")
    b = make_side(tmp_path / "runs", device=Device(accelerator="cuda", world_size=2, precision="32-true"))
    assert [*unswappable(a, b, images=True)] == ["device: 1 x cpu; 2 x cuda"]


def test_no_swap_gives_a_and_every_swap_gives_b(tmp_path: Path) -> None:
    a = make_side(tmp_path / "runs")
    b = make_side(tmp_path / "runs", code="x = 2\n", settings={"learning_rate": 0.1})
    assert hybrid(a, b, NONE).record.identity == a.record.identity
    every = hybrid(a, b, frozenset(possible_swaps(a, b, images=True)))
    assert (every.record.identity, every.bundle.digest) == (b.record.identity, b.bundle.digest)
    assert every.record.identity == identity_of(every.record.ingredients)


def test_one_swapped_setting_leaves_the_rest_of_a(tmp_path: Path) -> None:
    a = make_side(tmp_path / "runs", settings={"only_a": 1})
    b = make_side(tmp_path / "runs", code="x = 2\n", settings={"learning_rate": 0.1})
    one = hybrid(a, b, frozenset({Swap("setting", "learning_rate"), Swap("setting", "only_a")})).record.ingredients
    assert one.settings == SETTINGS | {"learning_rate": 0.1}
    assert one.source == a.record.ingredients.source


def test_a_swapped_image_includes_its_layers(tmp_path: Path) -> None:
    a, b = (
        make_side(tmp_path / "runs"),
        make_side(tmp_path / "runs", layers=[digest_of_bytes(b"b")], lock=digest_of_bytes(b"c")),
    )
    one = hybrid(a, b, frozenset({Swap("image")})).record.ingredients
    assert (one.layers, one.lock) == (b.record.ingredients.layers, b.record.ingredients.lock)


def test_a_dataset_of_neither_run_is_rejected(tmp_path: Path) -> None:
    a = make_side(tmp_path / "runs", settings={"dataset": "stars"})
    with pytest.raises(RunError, match="stars"):
        hybrid(a, a, NONE)
