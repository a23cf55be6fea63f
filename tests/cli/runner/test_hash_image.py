"""Hashing an image's files with the current script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DocumentError, EngineError
from trainer.cli.runner.container import hash_image_files
from trainer.environments.engine import ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.environments.engine import IsolatedContainer

IMAGE = ImageFacts(id=digest_of_bytes(b"image"), tags=(), references=(), layers=(), size=1, created="")


@dataclass(kw_only=True)
class PrintingEngine(MemoryEngine):
    lines: list[str] = field(default_factory=list)

    def confine(self, container: IsolatedContainer, *, say: Callable[[str], None]) -> int:
        self.confined.append(container)
        for line in self.lines:
            say(line)
        return self.inside(container)


def test_the_script_runs_isolated_and_its_last_line_is_the_result() -> None:
    """`python -I` ignores the image's environment variables."""
    engine = PrintingEngine(
        lines=["noise", '{"format":"reprise.hashed/1","right":7,"altered":["distribution numpy: altered"]}']
    )
    assert hash_image_files(IMAGE, user="1:1", engine=engine) == (7, ["distribution numpy: altered"])
    (container,) = engine.confined
    assert (container.program[:2], container.mounts[0].target) == (("python", "-I"), container.program[2])
    assert not container.mounts[0].writable


@pytest.mark.parametrize(
    "message", ["", "ok", '{"right": 7}', '{"format":"reprise.hashed/1","right":"x","altered":[]}']
)
def test_an_invalid_result_is_rejected(message: str) -> None:
    with pytest.raises(DocumentError):
        hash_image_files(IMAGE, user="1:1", engine=PrintingEngine(lines=[message]))


def test_an_image_that_cannot_run_the_script_is_an_error() -> None:
    engine = PrintingEngine()
    engine.inside = lambda _: 127
    with pytest.raises(EngineError, match="127"):
        hash_image_files(IMAGE, user="1:1", engine=engine)
