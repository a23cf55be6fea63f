"""Reproducing a run from its record: identical from an empty cache, rejected if necessary, and isolated."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from trainer.runs.record import Ingredients, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.conftest import CommandResult, House

pytestmark = pytest.mark.engine

PROBES = '''

import os, pathlib, socket, sys

def probes():
    """What this process can reach, a line each."""
    try:
        socket.create_connection(("store", 8333), timeout=2).close()
        yield "the network"
    except OSError:
        pass
    yield from (name for name in os.environ if name.startswith(("AWS", "WANDB")))
    for path in ("/project/here", "/opt/here", "/store/here", "/runs/here", "/run/reprise/settings.toml"):
        try:
            pathlib.Path(path).open("a").close()
            yield path
        except OSError:
            pass
    if pathlib.Path("/var/run/docker.sock").exists():
        yield "the engine"
    if "CapEff:\\t0000000000000000" not in pathlib.Path("/proc/self/status").read_text():
        yield "capabilities"

for reached in probes():
    print("REACHED", reached, file=sys.stderr)
'''


def empty_cache(house: House) -> None:
    project = next(line for line in (house.root / ".env").read_text().splitlines() if "PROJECT_NAME=" in line)
    assert house.type("docker", "volume", "rm", f"{project.partition('=')[2]}_cache").code == 0


def reproduce(house: House, *words: str) -> CommandResult:
    return house.type("scripts/reprise", "reproduce", *words)


def train_briefly(house: House) -> str:
    result = house.train("--exp", "digits", "--max-epochs", "1", "--learning-rate", "2e-3", "--clip-norm", "1.0")
    assert result.code == 0, result.text
    return result.run


@pytest.fixture
def own_run(house: House) -> str:
    return train_briefly(house)


@pytest.fixture(scope="module")
def trained_run(house: House, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    run, kept = train_briefly(house), tmp_path_factory.mktemp("kept") / "run"
    subprocess.run(["cp", "-a", house.root / "runs" / run, kept], check=True)
    return run, kept


@pytest.fixture
def run(house: House, trained_run: tuple[str, Path]) -> str:
    run, kept = trained_run
    shutil.rmtree(house.root / "runs" / run)
    subprocess.run(["cp", "-a", kept, house.root / "runs" / run], check=True)
    return run


@pytest.fixture
def record_editor(house: House, run: str) -> Callable[[Callable[[dict[str, Any]], None]], str]:
    """Return a function that edits a record, updates its identity, removes the note of its publication, and returns the run's ID."""
    path = house.root / "runs" / run / "attempts" / "1" / "record.json"

    def edit(change: Callable[[dict[str, Any]], None]) -> str:
        record = json.loads(path.read_bytes())
        change(record)
        record["identity"] = identity_of(Ingredients.model_validate(record["ingredients"]))
        path.write_text(json.dumps(record))
        path.with_name("published.json").unlink()  # otherwise the seal alone would reveal the edit
        return run

    return edit


def test_a_run_is_reproduced_identically_from_an_empty_cache_after_an_edit(house: House, own_run: str) -> None:
    empty_cache(house)
    page = house.root / "trainer" / "experiments" / "digits.py"
    before = page.read_text()
    page.write_text("raise SystemExit('the edited file was run')\n")
    try:
        document = reproduce(house, own_run, "--deep", "--json")
    finally:
        page.write_text(before)
    assert document.code == 0, document.text
    result = json.loads(document.out)
    assert result["retest"]["verdict"] == "identical"
    assert (result["retest"]["how"], result["retest"]["image"], result["retest"]["not_equal"]) == (
        "container",
        "verified",
        [],
    )
    assert result["retest"]["hashed"] > 10_000
    again = house.record(result["retest"]["retest"]["run"])
    assert again["identity"] == house.record(own_run)["identity"]
    assert again["circumstances"]["retest_of"] == own_run
    assert "identical: 1 on" in house.type("scripts/reprise", "runs", "show", own_run).out


def test_a_run_that_is_only_in_the_store_is_not_trusted(house: House, own_run: str) -> None:
    shutil.rmtree(house.root / "runs" / own_run)
    for register in (house.root / "runs").glob(".own-*"):
        shutil.rmtree(register)  # as on another machine
    readme = house.root / "README.md"
    before = readme.read_bytes()
    readme.write_bytes(before + b"edited\n")
    try:
        refused = reproduce(house, own_run)
        trusted = reproduce(house, own_run, "--trust")
    finally:
        readme.write_bytes(before)
    assert refused.code == 85, refused.text
    assert "different from this checkout: 1 file" in refused.err
    assert trusted.code == 0, trusted.text
    shutil.rmtree(house.root / "runs" / own_run / "retests")
    assert "identical: 1 on" in house.type("scripts/reprise", "runs", "show", own_run).out


def test_the_recorded_code_cannot_reach_network_or_keys(house: House) -> None:
    idea = house.root / "idea.py"
    idea.write_text((house.root / "trainer" / "experiments" / "digits.py").read_text() + PROBES)
    try:
        trained = house.train("--exp", "idea.py", "--max-epochs", "1")
    finally:
        idea.unlink()
    assert trained.code == 0, trained.text
    assert {"REACHED the network", "REACHED AWS_SECRET_ACCESS_KEY"} <= set(trained.text.splitlines())
    again = reproduce(house, trained.run)
    assert again.code == 0, again.text
    assert "REACHED" not in again.text


def test_another_ingredient_is_refuted(
    house: House, record_editor: Callable[[Callable[[dict[str, Any]], None]], str]
) -> None:

    def other(record: dict[str, Any]) -> None:
        record["ingredients"]["settings"]["learning_rate"] = 2.1e-3

    result = reproduce(house, record_editor(other))
    assert result.code == 20, result.text
    assert result.out.startswith("different:")
    assert "first difference" in result.out


def image(record: dict[str, Any]) -> None:
    manifest = record["circumstances"]["image"]["manifest"]
    record["circumstances"]["image"]["reference"] = f"x;touch /tmp/owned@{manifest}"


def option(record: dict[str, Any]) -> None:
    record["ingredients"]["settings"]["x --trust"] = 1
    record["circumstances"]["origins"]["x --trust"] = "command line"


def experiment(record: dict[str, Any]) -> None:
    record["ingredients"]["experiment"] = "../../../etc/passwd.py"


def dataset(record: dict[str, Any]) -> None:
    record["ingredients"]["datasets"]["../../x"] = record["ingredients"]["datasets"].pop("digits")


@pytest.mark.parametrize("change", [image, option, experiment, dataset])
def test_a_hostile_record_is_rejected(
    house: House,
    record_editor: Callable[[Callable[[dict[str, Any]], None]], str],
    change: Callable[[dict[str, Any]], None],
) -> None:
    run = record_editor(change)
    before = sorted(path.name for path in (house.root / "runs").iterdir())
    result = reproduce(house, run)
    assert result.code == 84, result.text
    assert "Traceback" not in result.text
    assert sorted(path.name for path in (house.root / "runs").iterdir()) == before


def test_an_edited_record_is_detected(house: House, run: str) -> None:
    path = house.root / "runs" / run / "attempts" / "1" / "record.json"
    path.write_text(path.read_text().replace('"learning_rate":0.002', '"learning_rate":0.003'))
    result = reproduce(house, run)
    assert result.code == 55
    assert "was changed after the run was published" in result.text


def test_doctor_names_each_missing_input_with_a_hint(house: House, run: str) -> None:
    assert house.type("scripts/reprise", "doctor", run).code == 0
    (house.root / "runs" / run / "source.tar.gz").unlink()
    result = house.type("scripts/reprise", "doctor", run)
    assert result.code == 84
    assert "pull the run again" in result.out


def test_compose_alone_reproduces_in_the_recorded_image_or_prints_the_command(house: House, run: str) -> None:
    shutil.rmtree(house.root / "runs" / run / "retests", ignore_errors=True)
    result = house.train("reproduce", run)
    assert result.code == 0, result.text
    assert result.out.startswith("identical:")
    path = house.root / "runs" / run / "attempts" / "1" / "record.json"
    other = "sha256:" + "1" * 64
    record = json.loads(path.read_text())
    record["circumstances"]["image"] |= {"manifest": other, "reference": f"registry.example/cpu@{other}"}
    record["ingredients"]["layers"] = [other]
    record["identity"] = identity_of(Ingredients.model_validate(record["ingredients"]))
    path.write_text(json.dumps(record))
    path.with_name("published.json").unlink()  # otherwise the error would be about the edit, not about the image
    elsewhere = house.train("reproduce", run, "--trust", "--grant", "machine")
    assert elsewhere.code == 86, elsewhere.text
    assert f"REPRISE_IMAGE=registry.example/cpu@{other} docker compose run --rm train reproduce {run}" in elsewhere.text


DRIFTED = """
S=/opt/venv/lib/python3.11/site-packages
mkdir $S/extra-1.0.dist-info
printf 'extra.py,,\\nextra-1.0.dist-info/RECORD,,\\n' >$S/extra-1.0.dist-info/RECORD
echo 'x = 1' >$S/extra.py
python -m trainer {words}
code=$?
chown -R {owner} runs
exit $code
"""


def run_after_install(house: House, words: str) -> CommandResult:
    """Install a package in a writable container and run a command in it."""
    values = dict(line.split("=", 1) for line in (house.root / ".env").read_text().splitlines() if "=" in line)
    script = DRIFTED.format(words=words, owner=f"{values['REPRISE_UID']}:{values['REPRISE_GID']}")
    command = ["docker", "compose", "--profile", "dev", "run", "--rm", "--no-deps", "-T", "--user", "0:0"]
    same = ("IMAGE", "IMAGE_CONFIG", "IMAGE_LAYERS")
    house.env.update({f"REPRISE_DEV_{name}": values[f"REPRISE_{name}"] for name in same})
    try:
        return house.type(*command, "--entrypoint", "sh", "dev", "-c", script)
    finally:
        for name in same:
            del house.env[f"REPRISE_DEV_{name}"]


def test_a_package_installed_into_a_container_is_named_and_prevents_reproduction(house: House, run: str) -> None:
    trained = run_after_install(house, "train --exp digits --max-epochs 1")
    assert trained.code == 0, trained.text
    assert house.record(trained.run)["circumstances"]["drift"] == ["distributions here and not in the image: extra 1.0"]
    refused = reproduce(house, trained.run)
    assert refused.code == 84
    assert "extra 1.0" in refused.err
    assert reproduce(house, trained.run, "--allow-drift").code == 0
    inside = run_after_install(house, f"reproduce {run}")
    assert inside.code == 87, inside.text
    assert "extra 1.0" in inside.text


@pytest.mark.usefixtures("house")
def test_no_container_remains() -> None:
    listed = subprocess.run(
        ["docker", "ps", "--all", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    assert not re.findall(r"^reprise-(?:\d{8}t|hash).*$", listed.stdout, re.MULTILINE)
