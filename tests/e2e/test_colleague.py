"""A colleague in a second clone lists, pulls, reproduces and compares a run, given only its ID."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import House, docker, dotenv_values
from tests.stores.server import BUCKET, PASSWORD, USER, wait_for
from trainer.environments.setup import project_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import CommandResult

pytestmark = pytest.mark.engine

KEYS = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a shared folder in which containers of this host's user can write."""
    place = tmp_path_factory.mktemp("share-")
    place.chmod(0o755)
    store = place / "team store"
    store.mkdir()
    store.chmod(0o777)
    return store


@pytest.fixture
def bucket(house: House, second_house: House) -> Iterator[str]:
    """Start a second S3 server in the network of the second clone's containers; yield its endpoint, which the host can also reach."""
    project = project_name(second_house.root)
    labels = (f"--label=com.docker.compose.project={project}", "--label=com.docker.compose.network=default")
    docker("network", "create", *labels, f"{project}_default")
    name, keys = f"{project}-bucket", [f"--env={name}={value}" for name, value in KEYS.items()]
    words = [
        "mini",
        "-dir=/data",
        f"-bucket={BUCKET}",
        "-ip.bind=0.0.0.0",
        "-admin.ui=false",
        "-s3.autoCreateBucket=false",
    ]
    options = ["--user=1000:1000", "--tmpfs=/data:mode=1777", f"--network={project}_default", "--entrypoint=weed"]
    docker("run", "--detach", "--name", name, *options, *keys, dotenv_values(house)["REPRISE_STORE_IMAGE"], *words)
    try:
        where = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
        assert wait_for(f"http://{where}:8333")
        yield f"http://{where}:8333"
    finally:
        docker("rm", "--force", name)


def reproduce_as_colleague(house: House, run: str) -> None:
    """List, pull, reproduce and compare a run that is only in the store."""
    listed = json.loads(house.type("scripts/reprise", "runs", "ls", "--json").out)
    assert [row["location"] for row in listed if row["run"] == run] == ["remote only"]
    pulled = house.type("scripts/reprise", "runs", "pull", run)
    assert pulled.code == 0, pulled.text
    again = house.type("scripts/reprise", "reproduce", run, "--trust", "--json")
    assert again.code == 0, again.text
    retest = json.loads(again.out)["retest"]
    assert retest["verdict"] == "identical"
    same = house.type("scripts/reprise", "compare", run, retest["retest"]["run"])
    assert (same.code, same.out.startswith("identical")) == (0, True), same.text


@pytest.mark.parametrize(
    "how",
    [
        "a line in .env",
        pytest.param("an option", marks=pytest.mark.long),
        pytest.param("the environment", marks=pytest.mark.long),
    ],
)
def test_a_run_is_shared_through_a_teams_folder(
    house: House, first_result: CommandResult, second_house: House, folder: Path, how: str
) -> None:
    result = house.type("scripts/reprise", "runs", "push", first_result.run, "--store", str(folder))
    assert result.code == 0, result.text
    assert f"data push digits@1 --store '{folder}'" in result.err
    pushed = house.type("scripts/reprise", "data", "push", "digits@1", "--store", str(folder))
    assert pushed.code == 0, pushed.text
    assert f"in {folder}" in pushed.out
    if how == "a line in .env":
        (second_house.root / ".env").write_text(f'REPRISE_STORE="{folder}"  # the share\n')
    words = ["--store", str(folder)] if how == "an option" else []
    setup = House(
        root=second_house.root,
        env=second_house.env | ({"REPRISE_STORE": str(folder)} if how == "the environment" else {}),
    )
    chosen = setup.type("scripts/setup", *words)
    assert chosen.code == 0, chosen.text
    assert (dotenv_values(second_house)["COMPOSE_PROFILES"], dotenv_values(second_house)["REPRISE_STORE"]) == (
        "",
        str(folder),
    )
    if how == "a line in .env":
        other = second_house.type("scripts/setup", "--store", str(folder.parent))
        assert (other.code, "a line in .env" in other.err) == (2, True), other.text
    reproduce_as_colleague(second_house, first_result.run)
    trained = second_house.train("--exp", "digits", "--max-epochs", "1")
    assert trained.code == 0, trained.text
    assert re.search(rf"^published +{re.escape(str(folder))}$", trained.out, re.MULTILINE)
    assert (folder / "runs" / trained.run / "attempts/1/sealed.json").is_file()
    back = house.type("scripts/reprise", "runs", "push", trained.run, "--from", str(folder), "--store", "s3://reprise")
    assert back.code == 0, back.text
    assert f"s3://reprise at http://127.0.0.1:{house.env['REPRISE_STORE_PORT']}" in back.out


@pytest.mark.long
def test_a_run_is_shared_through_a_bucket_on_another_server(
    house: House, first_result: CommandResult, second_house: House, bucket: str
) -> None:
    with_key = House(root=house.root, env=house.env | KEYS)
    target, local = (
        f"s3://{BUCKET}?endpoint={bucket}",
        f"s3://reprise at http://127.0.0.1:{house.env['REPRISE_STORE_PORT']}",
    )
    refused = house.type("scripts/reprise", "runs", "push", first_result.run, "--store", target)
    assert (refused.code, f"s3://{BUCKET} at {bucket}" in refused.err) == (52, True), refused.text
    for again in ("sent; in", "is in"):
        result = with_key.type("scripts/reprise", "runs", "push", first_result.run, "--with-data", "--store", target)
        assert (result.code, f"{again} s3://{BUCKET} at {bucket}" in result.out) == (0, True), result.text
    (second_house.root / ".env").write_text(
        "".join(f'{name}="{value}" # of the bucket\n' for name, value in KEYS.items())
    )
    setup = second_house.type("scripts/setup", "--store", f"s3://{BUCKET}", "--endpoint", bucket)
    assert (setup.code, f"s3://{BUCKET} at {bucket}" in setup.out) == (0, True), setup.text
    reproduce_as_colleague(second_house, first_result.run)
    trained = second_house.train("--exp", "digits", "--max-epochs", "1")
    assert (trained.code, f"s3://{BUCKET} at {bucket}" in trained.out) == (0, True), trained.text
    back = with_key.type("scripts/reprise", "runs", "push", trained.run, "--from", target, "--store", "s3://reprise")
    assert (back.code, f"sent; in {local}" in back.out) == (0, True), back.text
    assert house.type("scripts/reprise", "runs", "pull", trained.run).code == 0


@pytest.mark.long
def test_two_clones_on_one_machine_share_the_local_store(
    house: House, first_result: CommandResult, second_house: House
) -> None:
    setup = second_house.type("scripts/setup")
    assert setup.code == 0, setup.text
    assert (
        dotenv_values(second_house)["REPRISE_STORE_VOLUME"] == f"{dotenv_values(house)['COMPOSE_PROJECT_NAME']}_store"
    )
    reproduce_as_colleague(second_house, first_result.run)
    trained = second_house.type("scripts/train", "--yes", "--exp", "digits", "--max-epochs", "1")
    assert trained.code == 0, trained.text
    listed = json.loads(house.type("scripts/reprise", "runs", "ls", "--json").out)
    assert [row["location"] for row in listed if row["run"] == trained.run] == ["remote only"]


def test_a_folder_of_the_environment_is_mounted_for_that_command(
    house: House, first_result: CommandResult, folder: Path
) -> None:
    assert first_result.code == 0, first_result.text
    before = dotenv_values(house)
    other = House(root=house.root, env=house.env | {"REPRISE_STORE": str(folder)})
    trained = other.type("scripts/train", "--exp", "digits", "--max-epochs", "1")
    assert trained.code == 0, trained.text
    assert (folder / "runs" / trained.run / "attempts/1/sealed.json").is_file()
    assert dotenv_values(house) == before
    alone = other.train("runs", "ls")
    assert f"scripts/setup --store '{folder}'" in alone.err
    if os.getuid() == 0:
        folder.chmod(0o755)
        refused = other.type("scripts/train", "--exp", "digits", "--max-epochs", "1")
        assert (refused.code, "uid 1000" in refused.err) == (72, True), refused.text
