"""What the host's commands share: fetching a pinned image, with consent."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tests.checkouts import BASE, MACHINE, checkout
from tests.engine.memory import MemoryEngine
from trainer.actions.build_image import build, plan
from trainer.actions.pin import pin
from trainer.cli import checkout as edge
from trainer.errors import ImageMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environment import Pin


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Pin, MemoryEngine]:
    """The pin of a fresh clone, and an engine without its image whose registry has it."""
    root, other = checkout(tmp_path), MemoryEngine()
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=other, machine=MACHINE, root=root)
    made = pin(built, "127.0.0.1:5000/team/cpu", engine=other, root=root, push=True)
    monkeypatch.setattr(edge, "ROOT", root)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return made, MemoryEngine(registries=other.registries)


def test_a_pinned_image_is_fetched_with_yes(
    pinned: tuple[Pin, MemoryEngine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, engine = pinned
    monkeypatch.setenv("REPRISE_YES", "yes")
    edge.fetch_pinned("cpu", docker=engine)
    assert engine.image(made.reference)
    assert made.reference in capsys.readouterr().err


def test_without_a_terminal_the_thing_to_type_is_named(
    pinned: tuple[Pin, MemoryEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, engine = pinned
    monkeypatch.delenv("REPRISE_YES", raising=False)
    monkeypatch.setenv("REPRISE_TYPED", "scripts/train --exp digits")
    with pytest.raises(ImageMissingError, match=made.reference) as caught:
        edge.fetch_pinned("cpu", docker=engine)
    assert str(caught.value.hint).startswith("scripts/train --yes --exp digits")
    assert engine.image(made.reference) is None


def test_an_environment_without_a_pin_needs_no_consent(pinned: tuple[Pin, MemoryEngine]) -> None:
    edge.fetch_pinned("cuda", docker=pinned[1])
