"""Functions for commands on the host: fetching a pinned image after consent, and the local store's port."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.checkouts import BASE, MACHINE, write_checkout
from tests.environments.engine.memory import MemoryEngine
from trainer.base.errors import ImageMissingError, PortTakenError
from trainer.cli import checkout as edge
from trainer.environments.build import build, plan
from trainer.environments.engine import LocalStore
from trainer.environments.pin import pin

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.declaration import Pin


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Pin, MemoryEngine]:
    """Return the pin of a fresh clone, and an engine without the image, whose registry has it."""
    root, other = write_checkout(tmp_path), MemoryEngine()
    built = build(plan("cpu", stage="environment", base=BASE, root=root), engine=other, machine=MACHINE, root=root)
    written = pin(built, "127.0.0.1:5000/team/cpu", engine=other, root=root, push=True)
    monkeypatch.setattr(edge, "ROOT", root)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return written, MemoryEngine(registries=other.registries)


def test_a_pinned_image_is_fetched_with_yes(
    pinned: tuple[Pin, MemoryEngine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written, engine = pinned
    monkeypatch.setenv("REPRISE_YES", "yes")
    edge.fetch_pinned("cpu", docker=engine)
    assert engine.image(written.reference)
    assert written.reference in capsys.readouterr().err


def test_without_a_terminal_the_error_names_the_command_to_type(
    pinned: tuple[Pin, MemoryEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, engine = pinned
    monkeypatch.delenv("REPRISE_YES", raising=False)
    monkeypatch.setenv("REPRISE_TYPED", "scripts/train --exp digits")
    with pytest.raises(ImageMissingError, match=written.reference) as caught:
        edge.fetch_pinned("cpu", docker=engine)
    assert str(caught.value.hint).startswith("scripts/train --yes --exp digits")
    assert engine.image(written.reference) is None


def test_an_environment_without_a_pin_needs_no_consent(pinned: tuple[Pin, MemoryEngine]) -> None:
    edge.fetch_pinned("cuda", docker=pinned[1])


@pytest.mark.host
def test_no_second_server_is_started_on_a_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRISE_STORE_PORT", raising=False)
    served = LocalStore(project="reprise-2", port=8333, network="n", volume="reprise-1_store", key="k", secret="s")  # noqa: S106
    values = {"COMPOSE_PROJECT_NAME": "reprise-1", "REPRISE_STORE_PORT": "8333"}
    for port in ("8333", "8343"):
        with pytest.raises(PortTakenError, match="serves this checkout's volume on port 8333") as caught:
            edge.check_store_port(
                MemoryEngine(stores=[served]), values | {"REPRISE_STORE_PORT": port}, command="scripts/train"
            )
        assert caught.value.hint == "scripts/setup makes this checkout use that store"
    other = MemoryEngine(stores=[replace(served, volume="reprise-2_store")])
    with pytest.raises(PortTakenError) as caught:
        edge.check_store_port(other, values, command="scripts/train")
    assert "REPRISE_STORE_PORT=8343 scripts/train" in str(caught.value.hint)
