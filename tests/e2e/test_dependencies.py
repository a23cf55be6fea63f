"""Adding packages to a small environment on a real engine: a failing import, a missing Debian package, a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import House, clone, docker, house_at

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.index, pytest.mark.long]

SMALL = 'like = "cpu"\nextras = ["small"]\npackages = ["ca-certificates", "git", "python3", "tini"]\n'
EXTRA = """[project.optional-dependencies]
small = [
    "xxhash>=3.6 ; python_full_version < '3.12' and sys_platform == 'linux' and platform_machine == 'x86_64'",
]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yield a clone with an environment of one package; its images are removed afterwards."""
    root = tmp_path_factory.mktemp("reprise-small-")
    clone(root)
    (root / "environments" / "small.toml").write_text(SMALL)
    project = root / "pyproject.toml"
    project.write_text(project.read_text().replace("[project.optional-dependencies]\n", EXTRA, 1))
    store = tmp_path_factory.mktemp("store")
    with house_at(root, os.environ | {"REPRISE_STORE": str(store), "NO_COLOR": "1"}) as mine:
        assert mine.type("scripts/lock").code == 0
        store.chmod(0o777)
        yield mine
    for image in set(docker("images", "--quiet", "localhost/reprise/small").split()):
        docker("rmi", "--force", image)


def files(house: House) -> dict[str, str]:
    """Return the texts of the files that `reprise add` can change, by path."""
    paths = [
        house.root / "pyproject.toml",
        house.root / "uv.lock",
        *sorted((house.root / "environments").glob("*.toml")),
    ]
    return {str(path): Path(path).read_text() for path in paths}


def test_a_package_whose_import_fails_changes_no_file(small: House) -> None:
    before = files(small)
    result = small.type("scripts/reprise", "add", "python-magic", "--environment", "small")
    assert result.code == 63, result.text
    assert "`import magic`: ImportError: failed to find libmagic" in result.err
    assert "uv.lock are unchanged" in result.err
    assert "reprise add --system PACKAGE" in result.err
    assert files(small) == before


def test_with_its_library_the_package_is_added_and_imported(small: House) -> None:
    system = small.type("scripts/reprise", "add", "--system", "libmagic1", "--environment", "small")
    assert system.code == 0, system.text
    assert '"libmagic1"' in (small.root / "environments" / "small.toml").read_text()
    result = small.type("scripts/reprise", "add", "python-magic", "--environment", "small", "--json")
    assert result.code == 0, result.text
    document = json.loads(result.out)
    assert [row["name"] for row in document["packages"]] == ["python-magic"]
    assert document["environments"] == ["small"]
    assert document["size"] >= document["size_before"]
    words = [
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=python",
        document["image"],
        "-c",
        "import magic; print('ok')",
    ]
    assert docker(*words) == "ok"


def test_a_kill_during_the_build_changes_no_file(small: House) -> None:
    before = files(small)
    words = ("scripts/reprise", "add", "filetype", "--environment", "small")
    running = small.start(*words, start_new_session=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "install-packages /opt/venv" in line:
            break
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert files(small) == before
