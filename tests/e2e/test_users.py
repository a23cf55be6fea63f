"""Users of the host: the user who runs the everyday command owns all results, and nothing runs as root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import House, clone, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import CommandResult

pytestmark = pytest.mark.engine


def socket_group() -> int:
    return Path("/var/run/docker.sock").stat().st_gid


@pytest.fixture
def public() -> Iterator[Path]:
    """Yield a folder that other users can enter; pytest's own folders are private."""
    with tempfile.TemporaryDirectory(prefix="reprise-users-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="switches to other users: needs root")
@pytest.mark.parametrize("uid", [pytest.param(1000, marks=pytest.mark.long), 4321])
def test_a_user_without_a_name_trains_and_owns_the_run(public: Path, first_result: CommandResult, uid: int) -> None:
    assert first_result.code == 0, first_result.text  # so the images exist
    root, home = public / "clone", public / "home"
    for folder in (root, home):
        folder.mkdir()
    clone(root)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", root, home], check=True)
    environ = os.environ | {"HOME": str(home), "REPRISE_STORE_PORT": str(free_port())}
    house = House(root=root, env=environ)
    become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={socket_group()}", "--")
    try:
        result = house.type(*become, "scripts/train", "--exp", "digits", "--max-epochs", "1")
        assert result.code == 0, result.text
        record = root / "runs" / result.run / "attempts" / "1" / "record.json"
        assert (record.stat().st_uid, record.stat().st_gid) == (uid, uid)
        assert (root / ".env").stat().st_uid == uid
    finally:
        house.type(*become, "docker", "compose", "--profile", "*", "down", "--volumes")


def test_under_a_root_host_containers_are_user_1000(house: House, first_result: CommandResult) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, as on a host whose user is root")
    assert first_result.code == 0, first_result.text
    record = house.root / "runs" / first_result.run / "attempts" / "1" / "record.json"
    assert record.stat().st_uid == 1000
