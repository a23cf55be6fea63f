"""The pages about existing code: their examples are written to files and run."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
DOCS: Final = Path(__file__).parents[3] / "docs/how-to"
TEMPLATE: Final = Path(__file__).parent / "modules/template"


def test_a_template_repository_trains_with_the_files_of_the_page(checkout: Checkout) -> None:
    """The template's modules are in `src/`, as on the page, and are not changed."""
    shutil.copytree(TEMPLATE, checkout.root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ("models/mnist_module.py", "data/mnist_datamodule.py"):
        shutil.copy(TEMPLATE / kind.replace("mnist", "digits"), checkout.root / "src" / kind)
    text = (DOCS / "hydra-template.md").read_text(encoding="utf-8")
    for name, block in re.findall(r"    # (settings/\S+)\n((?:    .+\n)+)", text):
        (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.root / name).write_text(re.sub("^    ", "", block, flags=re.MULTILINE))
    commands = re.findall(r"docker compose run --rm train (--exp src/\S+ .*)", text)
    assert len(commands) == 2
    trained, printed = (checkout.reprise("train", *command.split()) for command in commands)
    assert trained.returncode == 0, trained.stderr
    assert "test/acc" in trained.stdout
    assert printed.returncode == 0, printed.stderr
    assert re.search(r"^batch_size = 64 +# .*settings/data/mnist.toml", printed.stdout, flags=re.MULTILINE)
    count = sum(changed_lines(path, checkout.root / "src") for path in (checkout.root / "src").rglob("*.py"))
    sys.stdout.write(f"lines of the template that changed: {count}\n")
    assert count == 0


def changed_lines(path: Path, root: Path) -> int:
    """Return how many lines differ between an adopted file and the template's file."""
    original = TEMPLATE / str(path.relative_to(root)).replace("mnist", "digits")
    before, now = (each.read_text(encoding="utf-8").splitlines() for each in (original, path))
    return sum(line[0] in "+-" for line in difflib.ndiff(before, now))


@pytest.mark.long
def test_a_loop_runs_as_a_script_and_as_a_module(checkout: Checkout) -> None:
    text = (DOCS / "custom-loops.md").read_text(encoding="utf-8")
    (checkout.root / "old").mkdir(exist_ok=True)
    for name, block in re.findall(r"```python\n# (old/\S+)\n(.*?)```", text, flags=re.DOTALL):
        (checkout.root / name).write_text(block)
    for command in re.findall(r"docker compose run --rm train (.*)", text):
        done = checkout.reprise("train", "--no-publish", *command.split())
        assert done.returncode == 0, done.stderr
        assert "loss" in done.stdout
    checked = checkout.reprise("check", "old/loop_module.py")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "resumed from step" in checked.stdout
