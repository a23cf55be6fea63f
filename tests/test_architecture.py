"""The table of subjects in docs/architecture.md, compared with the imports of the package."""

from __future__ import annotations

import ast
import functools
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "trainer"
DOCUMENT = PACKAGE.parent / "docs" / "architecture.md"
ONE_HOME = {
    # trainer.sites.place_source is a program that runs in a pod, without the package
    "boto3": {"trainer.stores.s3", "trainer.data.upstream.bucket", "trainer.sites.place_source"},
    "botocore": {
        "trainer.sites.place_source",
        "trainer.data.upstream.bucket",
        "trainer.stores.s3",
        "trainer.stores.s3_errors",
        "trainer.stores.multipart",
    },
    "fsspec": {"trainer.data.upstream.remote", "trainer.data.upstream.sftp"},
    "huggingface_hub": {"trainer.data.upstream.hub"},
    "paramiko": {"trainer.data.upstream.sftp"},
    "docker": {"trainer.environments.engine.docker"},
    "pynvml": {"trainer.runs.hardware"},
    "onnx_ir": {"trainer.models.onnx_file"},
    "onnxruntime": {"trainer.models.onnx_file"},
    "rfc8785": {"trainer.base.digest"},
    "cryptography": {"trainer.comparison.certificate"},
    "securesystemslib": {"trainer.comparison.certificate"},
}
TORCH = {"torch", "lightning", "torchmetrics", "safetensors", "tensorboard", "wandb", "mlflow"}
NAMES_FOR_NOTHING = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "core",
    "manager",
    "misc",
}

MODULES = {
    ".".join(("trainer", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def subject(module: str) -> str:
    return (module.split(".")[1:] or ["trainer"])[0]


def table() -> dict[str, list[str]]:
    """Subjects and what each imports, in the order of the document."""
    lines = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", DOCUMENT.read_text(), flags=re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", imports) for name, imports in lines}


def imported(path: Path, *, nested: bool) -> set[str]:
    """Modules that a file imports: at its top level (type-checking blocks included), or inside functions."""
    return set(_imports(path)[nested])


@functools.cache
def _imports(path: Path) -> tuple[set[str], set[str]]:
    """Return the imports of the top level and the imports inside functions."""
    found: tuple[set[str], set[str]] = (set(), set())
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), False)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, ast.Import):
            found[inside].update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found[inside].update(name if name in MODULES else node.module for name in names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        waiting.extend((child, inside) for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
        waiting.extend((child, inside) for child in _handlers(node))
    return found


def _handlers(node: ast.AST) -> list[ast.AST]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.ExceptHandler | ast.match_case)]


def test_the_table_lists_each_subject_and_its_imports() -> None:
    found: dict[str, set[str]] = {name: set() for name in table()}
    for module, path in MODULES.items():
        inner = imported(path, nested=False) | imported(path, nested=True)
        found.setdefault(subject(module), set()).update(subject(name) for name in inner if name in MODULES)
    del found["trainer"], found["__main__"]
    assert {name: sorted(imports - {name, "trainer"}) for name, imports in found.items()} == {
        name: sorted(imports) for name, imports in table().items()
    }


def test_a_subject_imports_only_subjects_above_it_in_the_table() -> None:
    above: list[str] = []
    for name, imports in table().items():
        assert set(imports) <= set(above), name
        above.append(name)


@pytest.mark.parametrize("module", MODULES)
def test_external_libraries_are_imported_in_one_module(module: str) -> None:
    """Each library with side effects is imported only in the listed modules, and torch only in `training`, `models` and `experiments`."""
    path = MODULES[module]
    tops = {name.split(".")[0] for name in imported(path, nested=False) | imported(path, nested=True)}
    strangers = {name for name, homes in ONE_HOME.items() if name in tops and module not in homes}
    assert not strangers
    assert subject(module) in {"training", "models", "experiments"} or not tops & TORCH


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if subject(name) not in {"training", "experiments", "cli", "notebook", "__main__"}],
)
def test_no_import_is_inside_a_function(module: str) -> None:
    encodings = {"base64", "html", "json", "urllib.parse"}
    allowed = {
        "trainer.stores": {"trainer.stores.s3"},
        "trainer.base.redaction": encodings,
        "trainer.runs.hardware": {"pynvml"},
        "trainer.comparison.certificate": {"securesystemslib.dsse", "securesystemslib.signer"},  # 0.2 s
        "trainer.models.onnx_file": {"onnx_ir.passes.common", "onnxruntime"},  # an environment may lack them
    }
    assert imported(MODULES[module], nested=True) <= allowed.get(module, set())


def test_no_module_has_a_meaningless_name() -> None:
    assert not {path.stem for path in MODULES.values()} & NAMES_FOR_NOTHING


def test_there_is_no_import_cycle() -> None:
    waiting = {
        name: {
            target
            for target in imported(path, nested=False)
            if target in MODULES and target != name and not _typing_only(path, target)
        }
        for name, path in MODULES.items()
    }
    while free := {name for name, targets in waiting.items() if not targets & waiting.keys()}:
        for name in free:
            del waiting[name]
    assert not waiting


def test_folders_named_like_libraries_hold_no_python() -> None:
    """A Python file in docker/ or datasets/ would shadow the library of that name."""
    root = PACKAGE.parent
    assert not [
        *root.glob("docker/**/*.py"),
        *root.glob("datasets/**/*.py"),
        *root.glob("tests/docker/*"),
        *root.glob("tests/datasets/*"),
    ]


UNBOUNDED = {
    "trainer.base.document": "the loader",
    "trainer.data.manifest_lines": "a manifest's first line, of a length that its digest fixes",
    "trainer.comparison.trace": "the lines of a trace, a hundred thousand of them; the loader formats an error",
    "trainer.sites.place_source": "a document that its digest verified, in a pod without the package",
    "trainer.data.tokenizer_file": "a tokenizer of at most 256 MiB, larger than a document may be",
    "trainer.reporting.curves": "lines of numbers: a line that cannot be parsed is omitted",
    "trainer.settings.ledger": "notes of this process and of its child processes",
    "trainer.training.scripts.watched.sitecustomize": "runs in a script's process, without the package",
    "trainer.settings.texts": "a word of the command line",
    "trainer.comparison.noise": "a word of the command line",
    "trainer.training.resuming.checkpoint_file": "a tree as deep as a checkpoint, of a length that its header bounds",
    "trainer.environments.lock_file": "runs before anything is installed; git is the origin of what it reads",
    "trainer.environments.import_test": "runs in an image's build, without the package",
    "trainer.models.predictions_file": "predictions that the same command wrote, one per line",
    "trainer.models.parity": "documents that this process wrote, and the responses of its own server",
    "trainer.models.program_file": "a program, which may be larger than a document",
    "trainer.training.checks.saved_weights": "a document that the same process wrote",
    **dict.fromkeys(
        ["trainer.cli.trainings", "trainer.cli.baseline", "trainer.cli.sweep.create"],
        "the output of a process that Reprise started",
    ),
    **dict.fromkeys(
        ["trainer.cli.bench", "trainer.cli.data.inspect"], "the request of the process that started this one"
    ),
}
"""Modules that parse JSON or TOML without the loader, each with its reason."""


@pytest.mark.parametrize("module", MODULES)
def test_documents_are_parsed_by_the_loader(module: str) -> None:
    """`trainer.base.document` limits what it reads; modules that bypass it are listed with a reason."""
    names = {"json.loads", "json.load", "tomllib.loads", "tomllib.load"}
    tree = ast.parse(MODULES[module].read_text())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = called & names or {name for name in called if name.endswith(".model_validate_json")}
    assert bool(found) == (module in UNBOUNDED), found


def _typing_only(path: Path, target: str) -> bool:
    return target in _imported_for_types(path)


@functools.cache
def _imported_for_types(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found |= {
                f"{inner.module}.{alias.name}"
                for inner in node.body
                if isinstance(inner, ast.ImportFrom)
                for alias in inner.names
            }
            found |= {inner.module for inner in node.body if isinstance(inner, ast.ImportFrom) and inner.module}
    return found


def test_each_file_of_a_walk_exists_and_no_walk_is_longer_than_twelve() -> None:
    walks = re.findall(r"((?:^\d+\. `trainer/.*\n)+)", DOCUMENT.read_text(), flags=re.MULTILINE)
    files = [re.findall(r"`(trainer/[\w/]+\.py)`", walk) for walk in walks]
    assert [len(walk) for walk in files] == [12, 12, 12]
    assert [path for walk in files for path in walk if not (PACKAGE.parent / path).exists()] == []


def test_commands_are_imported_on_a_machine_without_the_libraries_of_an_image() -> None:
    """The host has no numpy, torch, Pillow or pyarrow; `reprise data push` runs there."""
    names = [f"trainer.cli.{each.name}" for each in pkgutil.iter_modules([str(PACKAGE / "cli")])]
    code = (
        "import importlib, sys\n"
        "sys.modules |= dict.fromkeys(('numpy', 'torch', 'lightning', 'PIL', 'pyarrow', 'tokenizers'))\n"
        f"for name in {names}: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_BEFORE_A_WORD = re.compile(
    r"(?:\b(?:rm|mkdir|chmod|cp|mv|ls|cat)(?: [-+]\S+)*|data (?:publish|import) (?:NAME|\{\})|certify \S+|--exp|REPRISE_RUNS=) ?"
)
"""The beginning of a command in a message, up to a path or an address."""
_SAFE = {"experiment in trainer.cli", "'+rx' if is_folder else '+r' in trainer.data.files"}
"""Names of modules, and options."""


def unquoted(path: Path) -> list[str]:
    """Return the expressions in f-strings that are a word of a command, and that are not quoted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        before = ""
        for part in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(part, ast.FormattedValue):
                word = ast.unparse(part.value)
                begins = [each for each in _BEFORE_A_WORD.finditer(before) if each.end() == len(before)]
                if begins and "quote" not in word:
                    found.append(word)
                before += "{}"
            else:
                before += str(getattr(part, "value", ""))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_path_in_a_command_to_type_is_quoted(module: str) -> None:
    assert [word for word in unquoted(MODULES[module]) if f"{word} in {module}" not in _SAFE] == []
