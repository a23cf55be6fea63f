"""A colleague in a second clone: from the run id alone, the run is listed, pulled, reproduced and compared."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import House, clone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Said

pytestmark = pytest.mark.engine


def values(house: House) -> dict[str, str]:
    """What `.env` says."""
    lines = (house.root / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.fixture
def second(house: House, first: Said, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Another clone on the machine of the first one, with nothing in it but what git has."""
    assert first.code == 0, first.text
    root = tmp_path_factory.mktemp("reprise-second-")
    root.chmod(0o755)
    clone(root)
    mine = House(root=root, env=dict(house.env))
    try:
        yield mine
    finally:
        mine.type("docker", "compose", "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "1")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A share that containers of this host's user may write."""
    place = tmp_path_factory.mktemp("share-")
    place.chmod(0o755)
    store = place / "team store"
    store.mkdir()
    store.chmod(0o777)
    return store


def reproduced(house: House, run: str) -> None:
    """List, pull, run again and compare, as a colleague does."""
    listed = json.loads(house.type("scripts/reprise", "runs", "ls", "--json").out)
    assert [row["where"] for row in listed if row["run"] == run] == ["remote only"]
    pulled = house.type("scripts/reprise", "runs", "pull", run)
    assert pulled.code == 0, pulled.text
    again = house.type("scripts/reprise", "reproduce", run, "--trust", "--json")
    assert again.code == 0, again.text
    retest = json.loads(again.out)["retest"]
    assert retest["verdict"] == "identical"
    same = house.type("scripts/reprise", "same", run, retest["retest"]["run"])
    assert (same.code, same.out.startswith("identical")) == (0, True), same.text


def test_from_the_laptops_store_to_the_teams_folder_to_a_colleague(
    house: House, first: Said, second: House, folder: Path
) -> None:
    """A run and its dataset are pushed; what cannot reach the first store reproduces the run, and trains into the folder."""
    said = house.type("scripts/reprise", "runs", "push", first.run, "--store", str(folder))
    assert said.code == 0, said.text
    assert f"data push digits@1 --store '{folder}'" in said.err
    pushed = house.type("scripts/reprise", "data", "push", "digits@1", "--store", str(folder))
    assert pushed.code == 0, pushed.text
    assert f"in {folder}" in pushed.out
    setup = second.type("scripts/setup", "--store", str(folder))
    assert setup.code == 0, setup.text
    assert values(second)["COMPOSE_PROFILES"] == ""
    reproduced(second, first.run)
    trained = second.train("--exp", "digits", "--max-epochs", "1")
    assert trained.code == 0, trained.text
    assert re.search(rf"^published +{re.escape(str(folder))}$", trained.out, re.MULTILINE)
    assert (folder / "runs" / trained.run / "attempts/1/sealed.json").is_file()
    back = house.type("scripts/reprise", "runs", "push", trained.run, "--from", str(folder), "--store", "s3://reprise")
    assert back.code == 0, back.text
    assert f"s3://reprise at http://127.0.0.1:{house.env['REPRISE_STORE_PORT']}" in back.out


def test_two_clones_on_one_machine_share_the_local_store(house: House, first: Said, second: House) -> None:
    """The second one starts no server: it finds the first one's runs and data, and reproduces them."""
    setup = second.type("scripts/setup")
    assert setup.code == 0, setup.text
    assert values(second)["REPRISE_STORE_VOLUME"] == f"{values(house)['COMPOSE_PROJECT_NAME']}_store"
    reproduced(second, first.run)
    trained = second.type("scripts/train", "--yes", "--exp", "digits", "--max-epochs", "1")
    assert trained.code == 0, trained.text
    listed = json.loads(house.type("scripts/reprise", "runs", "ls", "--json").out)
    assert [row["where"] for row in listed if row["run"] == trained.run] == ["remote only"]


def test_a_folder_named_by_the_environment_is_mounted_for_that_command(house: House, first: Said, folder: Path) -> None:
    """By scripts/train; compose alone names the command that mounts it."""
    assert first.code == 0, first.text
    before = values(house)
    other = House(root=house.root, env=house.env | {"REPRISE_STORE": str(folder)})
    trained = other.type("scripts/train", "--exp", "digits", "--max-epochs", "1")
    assert trained.code == 0, trained.text
    assert (folder / "runs" / trained.run / "attempts/1/sealed.json").is_file()
    assert values(house) == before
    alone = other.train("runs", "ls")
    assert f"scripts/setup --store '{folder}'" in alone.err
    if os.getuid() == 0:
        folder.chmod(0o755)
        refused = other.type("scripts/train", "--exp", "digits", "--max-epochs", "1")
        assert (refused.code, "uid 1000" in refused.err) == (72, True), refused.text
