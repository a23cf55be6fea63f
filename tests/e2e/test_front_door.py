"""The first command produces a trained model and a record, and the everyday commands work after it."""

from __future__ import annotations

import json
import re
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import docker

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandResult, House

pytestmark = pytest.mark.engine

QUICK = ("--max-epochs", "1")


def test_the_first_command_produces_a_run_a_result_and_a_record(house: House, first_result: CommandResult) -> None:
    assert first_result.code == 0, first_result.text
    record = house.record(first_result.run)
    assert record["outcome"]["status"] == "completed"
    assert record["outcome"]["metrics"]["test_accuracy"] >= 0.95
    path = house.root / "runs" / first_result.run / "attempts" / "1" / "record.json"
    assert path.exists()
    assert str(path.relative_to(house.root)) in first_result.text


def test_a_second_command_builds_and_downloads_nothing(house: House, first_result: CommandResult) -> None:
    result = house.train("--exp", "digits", "--learning-rate", "3e-4", "--max-epochs", "2")
    assert result.code == 0, result.text
    assert result.run != first_result.run
    again, before = (house.record(run)["circumstances"]["image"]["manifest"] for run in (result.run, first_result.run))
    assert again == before
    assert "Building" not in result.text
    assert house.record(result.run)["ingredients"]["settings"]["learning_rate"] == 3e-4
    assert "MB/s" not in result.text


@pytest.mark.long  # test_reproduce checks that a rerun is bit-identical, without this marker
def test_the_same_settings_give_the_same_bits(house: House) -> None:
    one, other = (house.train("--exp", "digits", *QUICK, "--seed", "7") for _ in range(2))
    first, second = house.record(one.run), house.record(other.run)
    assert first["identity"] == second["identity"]
    assert first["outcome"]["weights"] == second["outcome"]["weights"]
    assert first["outcome"]["metrics"] == second["outcome"]["metrics"]


def test_the_record_has_the_engines_digest_of_the_image(house: House, first_result: CommandResult) -> None:
    record = house.record(first_result.run)
    image = record["circumstances"]["image"]
    document = json.loads(docker("image", "inspect", image["reference"]))[0]
    assert image["manifest"] in document["RepoDigests"][0]
    assert record["ingredients"]["layers"] == document["RootFS"]["Layers"]
    assert record["circumstances"]["origins"]["seed"] == "default"
    assert record["ingredients"]["datasets"]["digits"]["content"].startswith("sha256:")
    assert any(entry["bound"] for entry in record["outcome"]["ledger"].values())


def test_an_image_is_verified_if_a_launcher_on_the_host_observed_it(house: House, first_result: CommandResult) -> None:
    result = house.train("--exp", "digits", *QUICK)
    assert result.code == 0, result.text
    output, verified = (house.record(run)["circumstances"]["image"] for run in (result.run, first_result.run))
    assert (verified["known"], output["known"]) == ("verified", "asserted")
    assert (verified["manifest"], verified["config"]) == (output["manifest"], output["config"])


def test_an_edit_needs_no_build(house: House) -> None:
    page = house.root / "trainer" / "experiments" / "digits.py"
    before = page.read_text()
    page.write_text(before + "\n# an idea\n")
    try:
        result = house.train("--exp", "digits", *QUICK)
    finally:
        page.write_text(before)
    assert result.code == 0, result.text
    with tarfile.open(house.root / "runs" / result.run / "source.tar.gz") as bundle:
        kept = bundle.extractfile("trainer/experiments/digits.py")
        assert kept is not None
        assert kept.read().decode().endswith("# an idea\n")


def test_an_edit_during_a_run_does_not_affect_it(house: House) -> None:
    page = house.root / "trainer" / "experiments" / "digits.py"
    before = page.read_text()
    running = house.start("docker", "compose", "run", "--rm", "train", "--exp", "digits", "--max-epochs", "3")
    assert running.stdout is not None
    assert running.stderr is not None
    try:
        output = ""
        while not re.search(r"[0-9]{8}t[0-9]{6}-[a-z2-7]{6}", output):
            line = running.stderr.readline()
            assert line, output
            output += line
        page.write_text("raise SystemExit('leaked')\n")
        out, err = running.communicate(timeout=300)
    finally:
        page.write_text(before)
    assert running.returncode == 0, output + out + err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--exp", "digitz"), 42, "digits"),
        (("--exp", "digits", "--learning-rat", "1"), 41, "learning-rate"),
        (("--exp", "digits", "--learning-rate", "abc"), 41, "abc"),
        (("--exp", "digits", "--max-epochs", "-1"), 41, "-1"),
        (("--exp", "digits", "--dataset", "digitz"), 44, "digits"),
    ],
)
def test_invalid_arguments_are_one_line_with_a_hint(
    house: House, words: tuple[str, ...], code: int, message: str
) -> None:
    before = sorted((house.root / "runs").iterdir())
    answer = house.train(*words)
    assert answer.code == code, answer.text
    assert message in answer.text.replace("_", "-")
    assert "Traceback" not in answer.text
    assert sorted((house.root / "runs").iterdir()) == before


def test_help_lists_every_setting_with_type_default_and_meaning(house: House) -> None:
    result = house.train("--exp", "digits", "--help")
    assert result.code == 0, result.text
    for word in ("--learning-rate", "--seed", "--max-epochs", "--batch-size", "(a number, more than 0; default 0.003)"):
        assert word in result.text


def test_without_the_store_a_run_stays_local_and_is_published_later(house: House) -> None:
    house.type("docker", "compose", "stop", "store")
    try:
        result = house.type("docker", "compose", "run", "--rm", "--no-deps", "train", "--exp", "digits", *QUICK)
        assert result.code == 0, result.text
        assert "local only" in result.text
    finally:
        house.type("docker", "compose", "--profile", "*", "up", "--detach", "--wait", "store")
    published = house.type("scripts/reprise", "runs", "publish", result.run)
    assert published.code == 0, published.text
    listed = json.loads(house.type("scripts/reprise", "runs", "ls", "--json").out)
    assert [run["location"] for run in listed if run["run"] == result.run] == ["published"]


def test_docker_stop_leaves_a_checkpoint_and_a_record(house: House) -> None:
    name = f"{house.root.name}-stopped"
    words = ("docker", "compose", "run", "--rm", "--name", name, "train", "--exp", "digits", "--max-epochs", "1000")
    running = house.start(*words)
    assert running.stderr is not None
    output = ""
    while "epoch" not in output.lower():
        line = running.stderr.readline()
        assert line, output
        output += line
    docker("stop", name)
    _, rest = running.communicate(timeout=60)
    found = re.findall(r"[0-9]{8}t[0-9]{6}-[a-z2-7]{6}", output + rest)
    assert running.returncode == 75, output + rest
    record = house.record(found[-1])
    assert record["outcome"]["status"] == "preempted"
    assert any(file["path"].startswith("checkpoints/") for file in record["outcome"]["files"])
