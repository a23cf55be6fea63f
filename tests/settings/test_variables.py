"""Environment variables that begin with `REPRISE_`: the tables name all of them, and a variable that nothing reads is an error."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from trainer import cli
from trainer.base.errors import DotenvError, SettingError
from trainer.settings.variables import (
    OWN,
    PASSED_ON,
    SHELL_ONLY,
    VARIABLES,
    require_known_lines,
    require_known_variables,
)

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\bREPRISE_[A-Z_]*[A-Z]\b")
FOR_TESTS = {"REPRISE_FUZZ_REQUESTS", "REPRISE_TEST_NO_SKIPS"}
NOT_VARIABLES = {"REPRISE_REGISTRY", "REPRISE_REGISTRY_USER", "REPRISE_REGISTRY_TOKEN", "REPRISE_GPU_RUNNER"}
"""Names that only the configuration of a workflow has."""


def names_in(*folders: str) -> set[str]:
    """Return the variables that tracked files name, without the settings."""
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name and not name.endswith("settings/variables.py")]
    found = {name for file in files if file.is_file() for name in NAME.findall(file.read_text(errors="replace"))}
    return {name for name in found if not name.startswith("REPRISE_SETTING")} - NOT_VARIABLES


def test_the_tables_have_every_variable_that_the_code_names_and_no_other() -> None:
    named = names_in("trainer", "scripts", "docker", "compose.yaml", "compose.build.yaml", "compose.gpu.yaml")
    assert named | FOR_TESTS == {*VARIABLES} | OWN
    assert {*VARIABLES} | OWN >= SHELL_ONLY | PASSED_ON
    assert not {*VARIABLES} & OWN


def test_the_documents_name_known_variables_only() -> None:
    misspelled = {"REPRISE_LEARNING_RATE", "REPRISE_RUN"}  # in the paragraph about such variables
    named = names_in("docs", "README.md", "CONTRIBUTING.md", ".devcontainer", ".github")
    assert named - misspelled <= {*VARIABLES} | OWN


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("REPRISE_LEARNING_RATE", "REPRISE_SETTING_LEARNING_RATE, which gives the setting learning_rate"),
        ("REPRISE_SEED", "REPRISE_SETTING_SEED, which gives the setting seed"),
        ("REPRISE_SETINGS_SEED", "REPRISE_SETTING_SEED, which gives the setting seed"),
        ("REPRISE_RUN", "REPRISE_RUNS"),
        ("REPRISE_STORES", "REPRISE_STORE"),
        ("REPRISE_CACHE_LIMT", "REPRISE_CACHE_LIMIT"),
    ],
)
def test_a_variable_that_nothing_reads_is_an_error_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, near: str
) -> None:
    monkeypatch.setenv(variable, "1")
    for words in (["train", "--exp", "digits"], ["runs", "ls"], ["_foresee", "--exp", "digits"]):
        assert cli.main(words) == SettingError.code
        error = capsys.readouterr().err
        assert f"unknown environment variable {variable}: nothing reads it" in error
        assert f"did you mean {near}? Otherwise, unset {variable}" in error


@pytest.mark.parametrize("variable", ["REPRISE_STORE", "REPRISE_SETTING_SEED", "REPRISE_UID", "REPRISED", "OTHER"])
def test_a_variable_that_something_reads_is_known(variable: str) -> None:
    require_known_variables({variable: ""})


@pytest.mark.parametrize("variable", sorted(PASSED_ON))
def test_a_process_of_another_command_accepts_the_variables_of_a_later_version(variable: str) -> None:
    require_known_variables({variable: "1", "REPRISE_ADDED_LATER": "1"})


def test_the_variables_of_kubernetes_services_are_no_misspellings() -> None:
    services = {"REPRISE_MODEL_SERVICE_HOST": "10.0.0.1", "REPRISE_MODEL_PORT_8080_TCP_ADDR": "10.0.0.1"}
    require_known_variables({"KUBERNETES_SERVICE_HOST": "10.0.0.2", **services})
    with pytest.raises(SettingError):
        require_known_variables(services)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("REPRISE_SETTING_SEED", "settings are not read from .env", "--settings FILE"),
        ("REPRISE_RUNS", "which is read from the environment only", "export REPRISE_RUNS=1"),
        ("REPRISE_STORE_PORTT", "which nothing reads", "did you mean REPRISE_STORE_PORT?"),
        ("REPRISE_WORKERS", "which nothing reads", "--settings FILE"),
    ],
)
def test_a_line_of_dotenv_that_nothing_reads_is_an_error(name: str, message: str, hint: str) -> None:
    require_known_lines({"REPRISE_SHM": "4gb", "WANDB_API_KEY": "k"})
    with pytest.raises(DotenvError, match=rf"\.env has a line {name}.*{message}") as caught:
        require_known_lines({name: "1"})
    assert hint in str(caught.value.hint)
