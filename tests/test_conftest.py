from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("forbidden", "code"), [("", 0), ("yes", 1)])
@pytest.mark.parametrize(
    "text",
    [
        "import pytest\n\ndef test_it():\n    pytest.skip('needs npm')\n",
        "import pytest\npytest.importorskip('no_such_module')\n\ndef test_it():\n    pass\n",
        "import pytest\n\n@pytest.mark.skipif(True, reason='needs npm')\ndef test_it():\n    pass\n",
    ],
)
def test_a_skip_fails_on_build_machines_only(tmp_path: Path, text: str, forbidden: str, code: int) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_one.py").write_text(text)
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = os.environ | {"REPRISE_TEST_NO_SKIPS": forbidden}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == (code != 0), done.stdout
    assert ("which --no-skips forbids" in done.stdout) == bool(forbidden)
