"""The commands of docs/how-to/fine-tune.md, run with this machine's Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains, pytest.mark.long]
ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "how-to" / "fine-tune.md").read_text()
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def with_this_python(block: str) -> str:
    """Return the block with this Python in place of the image's."""
    python = f"'{sys.executable}' -m trainer"
    plain = block.replace("docker compose run --rm train", f"{python} train").replace("scripts/reprise", python)
    return re.sub(r"(reproduce .*)", r"\1 --no-container", plain)


def test_every_block_of_the_page_can_be_typed(checkout: Checkout, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    root = tmp_path / "checkout"
    shutil.copytree(checkout.root, root, ignore=lambda folder, _: {"runs"} if Path(folder) == checkout.root else set())
    shutil.copy(ROOT / "datasets/digits.toml", root / "datasets")
    (root / "runs").mkdir()
    environ = {**checkout.environ, "PYTHONPATH": str(root), "REPRISE_CACHE": str(tmp_path / "cache")}

    def typed(block: str) -> str:
        command = ["bash", "-euc", with_this_python(block)]
        done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    typed("scripts/reprise data publish-samples digits")
    from_run, reproduced, *files = BLOCKS
    assert "lineage" in typed(from_run)
    page = typed(reproduced)
    assert page.count("identical:") == 2
    assert "chain, each run from the weights of the rerun before it" in page
    weights = next((root / "runs").glob("*/attempts/1/weights.safetensors"))
    shutil.copy(weights, root / "net.safetensors")
    torch.save(load_file(weights), root / "net.pt")
    assert [typed(block).partition(":")[0] for block in files] == ["digits-net@1", "digits-old@1"]
