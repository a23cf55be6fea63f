"""The project of an experiment from outside the checkout: its root, and how its imports are resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.base.errors import ExperimentError
from trainer.source.project import find_project, frozen_project, import_roots, module_name, require_own_modules


def write(root: Path, *paths: str, **texts: str) -> Path:
    for path in (*paths, *texts):
        file = root / (path.replace("__", "/").removesuffix("_py") + ".py" if path in texts else path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(texts.get(path, ""))
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a repository with the package `src` and the package `src.models` in it."""
    names = ("src/__init__.py", "src/models/__init__.py", "src/models/net.py", "src/models/mnist.py", "scripts/run.py")
    return write(tmp_path / "theirs", ".git/HEAD", *names)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write(tmp_path / "checkout", "trainer/__init__.py", "tests/__init__.py", "loose.py", "docs/index.md")


def test_a_project_is_the_repository_or_the_folder_with_a_pyproject(tmp_path: Path, project: Path) -> None:
    assert find_project(project / "src/models/mnist.py") == project
    write(project, "packages/one/pyproject.toml", "packages/one/src/one/net.py")
    assert find_project(project / "packages/one/src/one/net.py") == project
    write(tmp_path / "plain", "pyproject.toml", "deep/er/net.py")
    assert find_project(tmp_path / "plain/deep/er/net.py") == tmp_path / "plain"
    assert find_project(tmp_path / "alone.py") is None


def test_a_home_that_is_a_repository_is_no_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    assert find_project(project / "src/models/mnist.py") is None


def test_a_file_of_a_frozen_source_belongs_to_the_project_in_it() -> None:
    assert frozen_project(Path("/run/source/experiment/project/src/a.py")) == Path("/run/source/experiment/project")
    assert frozen_project(Path("/run/source/experiment/a.py")) is None


def test_imports_begin_at_the_package_the_pyproject_and_the_project_or_their_src(project: Path) -> None:
    file = project / "src/models/mnist.py"
    assert (module_name(file, project), import_roots(file, project)) == ("src.models.mnist", [project, project / "src"])
    write(project, "packages/one/pyproject.toml", "packages/one/src/one/__init__.py", "packages/one/src/one/net.py")
    one = project / "packages/one"
    file = one / "src/one/net.py"
    assert module_name(file, project) == "one.net"
    assert import_roots(file, project) == [one / "src", one, project, project / "src"]
    assert module_name(project / "scripts/run.py", project) is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"src__models__mnist": "from src.models.net import Net\nimport numpy, os.path"}, None),
        ({"src__models__mnist": "from trainer.training import tasks"}, None),
        ({"src__models__mnist": "\nimport trainer", "trainer": ""}, "src/models/mnist.py:2 imports trainer, which"),
        (
            {"src__models__mnist": "from .net import Net", "src__models__net": "import tests.a", "tests__a": ""},
            "net.py:1",
        ),
        ({"src__models__mnist": "import src.models.net", "src__models__net": "import loose", "loose": ""}, "net.py:1"),
        ({"src__models__mnist": "import docs.a", "docs__a": ""}, None),
        ({"src__models__mnist": "import other", "tests__a": ""}, None),
        ({"src__models__mnist": "def broken(:"}, None),
    ],
)
def test_an_import_that_would_find_the_checkouts_module_is_an_error(
    project: Path, checkout: Path, texts: dict[str, str], message: str | None
) -> None:
    write(project, **texts)
    file = project / "src/models/mnist.py"
    if message is None:
        require_own_modules(file, project, checkout=checkout)
        return
    with pytest.raises(ExperimentError, match=message) as caught:
        require_own_modules(file, project, checkout=checkout)
    assert "rename" in str(caught.value.hint)


def test_a_package_of_the_project_that_the_checkout_has_too_is_an_error(project: Path, checkout: Path) -> None:
    write(checkout, "src/__init__.py")
    with pytest.raises(ExperimentError, match="is in src, which is a package of the checkout too"):
        require_own_modules(project / "src/models/mnist.py", project, checkout=checkout)
