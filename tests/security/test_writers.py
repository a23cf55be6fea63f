"""Only listed modules change files by path: files in a run or in the cache are changed only through `trainer.base.safe_folder`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import pytest

from tests.test_architecture import MODULES

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED: Final = {
    "trainer.environments.build": "the folder of a build",
    "trainer.cli.self_test": "a temporary folder",
    "trainer.data.sample_datasets": "its own folder",
    "trainer.training.new_experiment": "the checkout",
    "trainer.environments.pin": "the checkout",
    "trainer.environments.dependencies": "a copy of the checkout",
    "trainer.environments.trial": "a copy of the checkout, and a journal in the checkout",
    "trainer.environments.setup": "the checkout, and the folder of runs itself",
    "trainer.base.safe_folder": "the implementation of safe changes",
    "trainer.cli": "the null device",
    "trainer.cli.data.prepare_table": "the mode of the request for a container",
    "trainer.cli.data.imports": "the folder of downloads in the checkout",
    "trainer.cli.data.inspect": "a temporary file",
    "trainer.cli.data.weights": "a temporary folder",
    "trainer.notebook.training": "a temporary file",
    "trainer.training.scripts.watched.sitecustomize": "runs in a script's process, without the package",
    "trainer.cli.image": "a temporary folder",
    "trainer.environments.engine.docker": "the cache of image facts, in the checkout",
    "trainer.base.atomic_file": "a path that the user named",
    "trainer.sites.place_source": "runs in a pod, without the package, in its own empty folders",
    "trainer.source.read_folder": "the checkout, to read",
    "trainer.base.plain_text": "a path that the user named, to read",
    "trainer.stores.directory": "a store",
    "trainer.data.files": "a folder to publish, to read",
    "trainer.data.upstream.archive": "a new folder of the caller, from checked names and without links",
    "trainer.data.upstream.bucket": "a new file of the caller",
    "trainer.data.upstream.picture_arrays": "a new folder of the caller",
    "trainer.data.upstream.transfer": "the folder of downloads in the checkout, from checked names",
    "trainer.stores.unchecked": "a store",
    "trainer.training.bench": "a profile that a library writes",
    "trainer.training.checks.saved_weights": "a temporary folder",
    "trainer.training.checks.short_training": "a temporary folder",
    "trainer.training.plain.promises": "a temporary folder",
    "trainer.models.predictions_file": "the file that the user names, and a partial file beside it",
    "trainer.models.golden_files": "a temporary folder",
    "trainer.models.inputs": "a temporary folder",
    "trainer.models.parity": "a temporary folder",
    "trainer.training.readers.synthetic": "a temporary folder",
}
METHODS: Final = {
    "write_bytes": 1,
    "write_text": 1,
    "touch": 0,
    "mkdir": 0,
    "unlink": 0,
    "rmdir": 0,
    "chmod": 1,
    "rename": 1,
    "symlink_to": 1,
    "hardlink_to": 1,
}
"""Methods of `pathlib.Path` with their numbers of arguments; the methods of `trainer.base.safe_folder.Root` take one more argument."""
FUNCTIONS: Final = {
    "os": {"chmod", "chown", "link", "makedirs", "mkdir", "open", "remove", "rename", "replace", "rmdir", "symlink", "truncate", "unlink"},
    "shutil": {"chown", "copy", "copyfile", "copytree", "move", "rmtree"},
    "tempfile": {"mkdtemp", "mkstemp"},
}  # fmt: skip


def changes(path: Path) -> list[str]:
    """Return the calls in a module that change a file by its path, as `line: name`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [f"{call.lineno}: {name}" for call in calls if (name := changed_by(call))]


def changed_by(node: ast.AST) -> str | None:
    """Return the name of the called function if the call changes a file by its path, else `None`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    words, result = len(node.args), {keyword.arg for keyword in node.keywords}
    called = node.func
    if isinstance(called.value, ast.Name) and called.attr in FUNCTIONS.get(called.value.id, ()):
        return None if result & {"dir_fd", "src_dir_fd"} else f"{called.value.id}.{called.attr}"
    if METHODS.get(called.attr) == words:
        return called.attr
    writes = [word for word in node.args if isinstance(word, ast.Constant) and str(word.value)[:1] in "wax"]
    return "open" if called.attr == "open" and words == len(writes) == 1 else None


@pytest.mark.parametrize("module", MODULES)
def test_only_listed_modules_change_files_by_path(module: str) -> None:
    found = changes(MODULES[module])
    assert not found or module in ALLOWED


def test_every_listed_module_changes_files() -> None:
    assert [module for module in ALLOWED if module not in MODULES or not changes(MODULES[module])] == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("(folder / 'x').write_bytes(b'')", "write_bytes"),
        ("path.mkdir(parents=True)", "mkdir"),
        ("path.chmod(0o755)", "chmod"),
        ("path.open('wb')", "open"),
        ("os.open(path, 0)", "os.open"),
        ("shutil.rmtree(path)", "shutil.rmtree"),
        ("root.mkdir('x')", None),
        ("root.chmod('x', 0o755)", None),
        ("root.open('file')", None),
        ("path.open('rb')", None),
        ("os.open(name, 0, dir_fd=folder)", None),
    ],
)
def test_file_changing_calls_are_recognized(code: str, name: str | None) -> None:
    assert changed_by(ast.parse(code, mode="eval").body) == name
