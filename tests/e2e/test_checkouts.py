"""Every kind of checkout can train, and one commit has one source digest, in containers and on the host."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import house_at
from trainer.source.capture import capture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.conftest import CommandResult, House

pytestmark = [pytest.mark.engine, pytest.mark.long]
TRAIN = ("scripts/train", "--yes", "--exp", "digits", "--max-epochs", "1")


def git(folder: Path, *words: str) -> None:
    allowed = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *allowed, *words], cwd=folder, check=True, capture_output=True)


def worktree(origin: Path, root: Path) -> None:
    git(origin, "worktree", "add", "-q", "-f", str(root), "-b", root.parent.name)


def archive(origin: Path, root: Path) -> None:
    root.mkdir()
    git(origin, "archive", "--output", f"{root}.tar", "HEAD")
    subprocess.run(["tar", "-x", "-f", f"{root}.tar", "-C", root], check=True)


def shallow(origin: Path, root: Path) -> None:
    """Clone the last commit with core.autocrlf, which .gitattributes overrides."""
    git(origin, "clone", "-q", "--depth", "1", "-c", "core.autocrlf=true", origin.as_uri(), str(root))


def source(house: House, run: str) -> tuple[str, str]:
    """Return the digest and the commit of a run's record."""
    record = house.record(run)
    return record["ingredients"]["source"], record["circumstances"]["source"]["commit"]


@pytest.mark.parametrize("made", [worktree, archive, shallow])
def test_the_first_command_trains_in_a_checkout_of_any_kind(
    house: House,
    first_result: CommandResult,
    second_house: House,
    tmp_path_factory: pytest.TempPathFactory,
    made: Callable[[Path, Path], None],
) -> None:
    root = tmp_path_factory.mktemp("reprise-kind-") / "Prüf stand's"
    root.parent.chmod(0o755)
    made(second_house.root, root)
    (root / ".hypothesis").mkdir()
    (root / ".hypothesis" / "ignored.txt").write_text("x")
    commit = second_house.type("git", "rev-parse", "HEAD").out.strip()
    with house_at(root, dict(house.env)) as mine:
        result = mine.type(*TRAIN)
        assert result.code == 0, result.text
        usual, _ = source(house, first_result.run)
        assert source(mine, result.run) == (usual, "unknown" if made is archive else commit)


def test_submodules_are_captured_and_links_out_of_the_checkout_are_not(
    second_house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    origin = tmp_path_factory.mktemp("reprise-nets-")
    (origin / "nets.py").write_text("WIDTH = 64\n")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Nets")):
        git(origin, *words)
    git(second_house.root, "submodule", "add", "-q", str(origin), "vendor/nets")
    for name, target in (
        ("width.py", "vendor/nets/nets.py"),
        ("out.py", origin / "nets.py"),
        ("lost.py", "nowhere.py"),
    ):
        (second_house.root / name).symlink_to(target)
    result = second_house.type(*TRAIN)
    assert result.code == 0, result.text
    record, here = second_house.record(result.run), capture(second_house.root, runs=second_house.root / "runs")
    assert record["ingredients"]["source"] == here.digest
    assert record["circumstances"]["source"]["submodules"] == here.source.submodules
    assert list(here.source.submodules) == ["vendor/nets"]
    assert {"width.py", "vendor/nets/nets.py"} <= {file.path for file in here.files}
    left_out = [line.partition(":")[0] for line in record["circumstances"]["source"]["left_out"]]
    assert left_out == ["lost.py", "out.py"]


def test_a_path_with_a_colon_is_rejected_before_anything_is_created(
    second_house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("reprise-colon-") / "co:lon"
    shallow(second_house.root, root)
    with house_at(root, dict(second_house.env)) as mine:
        for words in (TRAIN, ("scripts/setup",), ("scripts/reprise", "runs", "ls")):
            result = mine.type(*words)
            assert (result.code, "-> move the checkout to a path without a colon" in result.err) == (2, True), (
                result.text
            )
        assert mine.type("git", "status", "--porcelain", "--ignored").out == ""


def test_a_checkout_with_crlf_is_repaired_as_documented(second_house: House) -> None:
    for name in ("scripts/machine/engine", "scripts/train"):
        path = second_house.root / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    result = second_house.type("sh", "-c", "scripts/machine/engine status")
    assert result.code == 127, result.text
    assert "git rm -rq --cached . && git reset -q --hard" in (second_house.root / "docs/how-to/machines.md").read_text()
    assert second_house.type("sh", "-c", "git rm -rq --cached . && git reset -q --hard").code == 0
    assert second_house.type("sh", "-c", "scripts/machine/engine status").code == 0
