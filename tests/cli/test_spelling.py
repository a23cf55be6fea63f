"""The spelling of this package's commands: each text that names a command is spelled for the reader's environment."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from trainer.base.errors import UsageError
from trainer.cli import COMMANDS
from trainer.cli.messages import report, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(__file__).parents[2] / "trainer"
NAMED: Final = re.compile(rf"(?<![\w/.-])reprise ({'|'.join(COMMANDS)})\b")
PRINTED_BY_REPORT: Final = {"hint", "remedy", "more"}
"""The attributes of errors and findings whose commands `report` and the doctors spell when they print them."""
NOT_FOLLOWED: Final = {"Arguments", "ArgumentParser", "add_argument", "add_parser"}
"""The calls that build a help text, which names the command as the user typed it."""
KNOWN: Final = {
    "trainer/cli/__init__.py": "the overview; and what no container can do, with the host's spelling beside it",
    "trainer/cli/train/manual.py": "the manual",
    "trainer/cli/dependencies.py": "the hint of an error, which spells it",
    "trainer/cli/containers.py": "the sentence names the command that was typed",
    "trainer/cli/resume.py": "the command in the hint of an error, which spells it",
    "trainer/cli/predict.py": "the command in the hint of an error, which spells it",
    "trainer/cli/find_package.py": "the hint of an error, which spells it, and a help text",
    "trainer/cli/retest.py": "the command in the hint of an error, which spells it",
    "trainer/cli/package.py": "the command in the hint of an error, which spells it",
    "trainer/models/build.py": "the hint of an error, which spells it",
    "trainer/models/card.py": "a file of a package, for readers elsewhere",
    "trainer/models/export.py": "the hint of an error, which spells it",
    "trainer/models/array_files.py": "the hint of an error, which spells it",
    "trainer/models/package_artifact.py": "the hint of an error, which spells it",
    "trainer/models/weights_retest.py": "the hint of an error, which spells it",
    "trainer/models/prediction.py": "notes; the command predict spells them",
    "trainer/models/package.py": "the hint of an error, which spells it",
    "trainer/models/package_store.py": "the hint of an error, which spells it",
    "trainer/cli/why.py": "the command in the hint of an error, which spells it",
    "trainer/cli/messages.py": "the speller's own examples",
    "trainer/environments/dependencies.py": "the hint of an error, which spells it",
    "trainer/environments/dependency_lock.py": "the hint of an error, which spells it",
    "trainer/environments/pin.py": "the first line of a file that is committed",
    "trainer/sites/slurm.py": "a comment in a job's script",
    "trainer/comparison/compare.py": "notes, kept in documents; the page spells them",
    "trainer/comparison/verdict.py": "notes, kept in documents; the page spells them",
    "trainer/comparison/certificate.py": "the hint of an error, which spells it",
    "trainer/data/cache/version.py": "the hint of an error, which spells it",
    "trainer/data/publish.py": "the hint of an error, which spells it",
    "trainer/data/format_guess.py": "the hint of an error, or a note; both are spelled when they are printed",
    "trainer/data/upstream/torchvision.py": "the hints of errors, which spell them",
    "trainer/data/declaration.py": "the first lines of a file that is committed",
    "trainer/stores/s3_errors.py": "the hint of an error, which spells it",
    "trainer/runs/image_claim.py": "the hint of an error, which spells it",
    "trainer/runs/names.py": "the hint of an error, which spells it",
    "trainer/runs/publish.py": "the hint of an error, which spells it",
    "trainer/runs/verify.py": "the hint of an error, or part of a note of a comparison; both are spelled when they are printed",
    "trainer/settings/errors.py": "the hint of an error, which spells it",
    "trainer/settings/declarations.py": "the hint of an error, which spells it",
    "trainer/training/new_experiment.py": "a comment of the page that is written",
    "trainer/comparison/rerun.py": "a finding's remedy, kept under a name",
}


@pytest.mark.parametrize(
    ("text", "host", "container"),
    [
        (
            "reprise train --exp digits",
            "scripts/reprise train --exp digits",
            "docker compose run --rm train --exp digits",
        ),
        ("`reprise runs ls` lists", "`scripts/reprise runs ls` lists", "`docker compose run --rm train runs ls` lists"),
        ("reprise doctor", "scripts/reprise doctor", "scripts/reprise doctor"),
        ("scripts/reprise data publish", "scripts/reprise data publish", "scripts/reprise data publish"),
        ("s3://reprise runs, reprise is", "s3://reprise runs, reprise is", "s3://reprise runs, reprise is"),
    ],
)
def test_a_command_is_spelled_for_the_host_or_the_container(text: str, host: str, container: str) -> None:
    assert spelled(text, by_compose=False) == host
    assert spelled(text, by_compose=True) == container


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failure_spells_its_commands(*, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    report(UsageError("`reprise image` is on the host", hint="reprise runs ls"), as_json=as_json, debug=False)
    stderr = capsys.readouterr().err
    assert NAMED.search(stderr) is None
    assert not as_json or json.loads(stderr)["hint"] == "scripts/reprise runs ls"


def command_texts(path: Path) -> Iterator[tuple[ast.Constant, list[ast.AST]]]:
    """Yield each string of a module that names a command, except docstrings, with its parent nodes."""

    def walk(node: ast.AST, around: list[ast.AST]) -> Iterator[tuple[ast.Constant, list[ast.AST]]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and NAMED.search(child.value):
                yield child, [*around, node]
            yield from walk(child, [*around, node])

    yield from walk(ast.parse(path.read_text()), [])


def is_spelled(around: list[ast.AST]) -> bool:
    """Return whether a string is passed to `spelled`, to an error or to a finding, or is part of a help text."""
    for node in around:
        if isinstance(node, ast.keyword) and node.arg in PRINTED_BY_REPORT:
            return True
        if isinstance(node, ast.Assign | ast.NamedExpr):
            names = {
                part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
            if names & PRINTED_BY_REPORT:
                return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "spelled" or called in NOT_FOLLOWED or called.endswith("Error"):
                return True
    return False


def test_every_text_that_names_a_command_passes_through_the_speller() -> None:
    """`KNOWN` lists the exceptions with their reasons."""
    subjects = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in {"cli", "training"}]
    paths = sorted([*PACKAGE.glob("cli/*.py"), *subjects])
    found = {path: list(command_texts(path)) for path in paths}
    assert sum(map(len, found.values())) > 30, "nothing was collected"
    raw = [
        f"{path.relative_to(PACKAGE.parent)}:{text.lineno}"
        for path, texts in found.items()
        for text, around in texts
        if not is_spelled(around) and path.relative_to(PACKAGE.parent).as_posix() not in KNOWN
    ]
    assert raw == []
