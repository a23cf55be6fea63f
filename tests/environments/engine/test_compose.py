"""The errors of services that fail, as one sentence each, and the properties of compose.yaml."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trainer.base.errors import EngineError, PortTakenError, UsageError
from trainer.environments.declaration import load_environment
from trainer.environments.engine.compose import compose_error, volume

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "compose.yaml").read_text()


@pytest.mark.parametrize(
    "output",
    [
        "Error: driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:8333 failed: port is already allocated",
        "Error starting userland proxy: listen tcp4 127.0.0.1:8333: bind: address already in use",
    ],
)
def test_a_port_in_use_is_an_error_with_a_hint(output: str) -> None:
    found = compose_error("train", output)
    assert isinstance(found, PortTakenError)
    assert "port 8333" in found.message
    assert found.hint == "REPRISE_STORE_PORT=8343 scripts/setup"


def test_other_failures_keep_their_last_lines() -> None:
    found = compose_error(
        "train",
        " Container reprise-store-1  Running\nreprise: unknown experiment 'digitz'\n  -> did you mean digits?\n",
    )
    assert type(found) is EngineError
    assert found.message.endswith("failed: reprise: unknown experiment 'digitz' / -> did you mean digits?")


def test_every_published_port_is_on_loopback() -> None:
    ports = re.findall(r"ports:\n\s+- (\S+)", TEXT)
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_container_gets_the_engines_socket() -> None:
    """A container with the engine's socket has root access to the host."""
    assert "docker.sock" not in TEXT
    assert "privileged" not in TEXT


def service_config(service: str, folder: Path, checkout: Path = ROOT, /, **environ: str) -> dict[str, Any]:
    """Return a service's configuration for the environment `environ`, without `.env`."""
    command = ["docker", "compose", "--project-name", "p", "--project-directory", str(checkout)]
    command += ["--env-file", str(folder / "env"), "--file"]
    (folder / "env").touch()
    document = subprocess.run(
        [*command, str(checkout / "compose.yaml"), "--profile", "*", "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "REPRISE_UID": "1000", "REPRISE_GID": "1000", **environ},
        cwd=folder,
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(document.stdout)["services"][service]
    return found


def test_no_bind_mount_uses_the_short_form() -> None:
    """The short form treats a colon in a path as a separator."""
    assert re.findall(r"^ +- [\"']?[./~].*$", TEXT, re.MULTILINE) == [
        "    - /tmp:mode=1777,exec",
        "    - /home/reprise:mode=1777",
        "      - /project/.venv:exec,uid=${REPRISE_UID},gid=${REPRISE_GID}",
        "      - /project/.reprise:exec,uid=${REPRISE_UID},gid=${REPRISE_GID}",
    ]


@pytest.mark.engine
@pytest.mark.parametrize("name", ["co:lon", "a blank", "quo'te", 'dou"ble', "$HOME", "#1", "한국어", "new\nline"])
def test_a_checkout_of_any_path_is_mounted_whole(tmp_path: Path, name: str) -> None:
    checkout = tmp_path / name
    (checkout / "runs").mkdir(parents=True)
    shutil.copy(ROOT / "compose.yaml", checkout)
    mounted = {each["target"]: each for each in service_config("train", tmp_path, checkout)["volumes"]}
    # `config` escapes `$` as `$$`
    assert (mounted["/project"]["source"], mounted["/project"]["read_only"]) == (str(checkout).replace("$", "$$"), True)
    assert mounted["/project/runs"]["source"] == str(checkout / "runs").replace("$", "$$")
    assert not any(
        each.get("read_only")
        for each in service_config("dev", tmp_path, checkout)["volumes"]
        if each["target"] == "/project"
    )


@pytest.mark.engine
def test_the_runs_folder_of_the_shell_is_mounted_at_its_own_path(tmp_path: Path) -> None:
    found = service_config("train", tmp_path, ROOT, REPRISE_RUNS="/srv/runs")
    assert found["environment"]["REPRISE_RUNS"] == "/srv/runs"
    assert ("/srv/runs", "/srv/runs") in [(each["source"], each["target"]) for each in found["volumes"]]
    assert service_config("train", tmp_path, ROOT)["environment"]["REPRISE_RUNS"] == "/project/runs"


@pytest.mark.engine
@pytest.mark.parametrize("service", ["train", "samples", "dev"])
def test_wandb_mlflow_and_tls_variables_of_the_shell_are_passed(tmp_path: Path, service: str) -> None:
    shell = {
        "WANDB_API_KEY": "k",
        "WANDB_BASE_URL": "https://w.example",
        "MLFLOW_TRACKING_URI": "https://m.example",
        "MLFLOW_TRACKING_TOKEN": "t",
        "MLFLOW_TRACKING_USERNAME": "u",
        "MLFLOW_TRACKING_PASSWORD": "p",
        "AWS_CA_BUNDLE": "/ca.pem",
        "REPRISE_HOST": "h",
        "REPRISE_CACHE_LIMIT": "20GB",
        "REPRISE_DEBUG": "1",
    }
    found = service_config(service, tmp_path, ROOT, **shell)
    assert shell.items() <= found["environment"].items()
    assert ("/ca.pem", "/ca.pem", True) in [(v["source"], v["target"], v.get("read_only")) for v in found["volumes"]]


@pytest.mark.engine
def test_unset_variables_are_not_passed_as_empty(tmp_path: Path) -> None:
    """An empty AWS_CA_BUNDLE would disable the verification of certificates."""
    found = service_config("train", tmp_path)["environment"]
    assert [found.get(name) for name in ("AWS_CA_BUNDLE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI")] == [None, None, None]


@pytest.mark.engine
def test_the_local_store_uses_the_key_of_dotenv_and_another_store_the_shells(tmp_path: Path) -> None:
    shell = {"AWS_ACCESS_KEY_ID": "work", "AWS_SECRET_ACCESS_KEY": "w", "AWS_SESSION_TOKEN": "t"}
    local = {"REPRISE_STORE_KEY": "mine", "REPRISE_STORE_SECRET": "m", "REPRISE_STORE_TOKEN": ""}
    for service in ("train", "store", "samples"):
        found = service_config(service, tmp_path, ROOT, **shell, **local)["environment"]
        assert [found.get(name) or "" for name in shell] == ["mine", "m", ""]
    assert shell.items() <= service_config("train", tmp_path, ROOT, **shell)["environment"].items()


def test_there_is_one_default_base() -> None:
    base = load_environment("cpu", root=ROOT).base
    assert f"ARG BASE={base}\n" in (ROOT / "docker" / "Dockerfile").read_text()
    assert f"${{REPRISE_BASE:-{base}}}" in (ROOT / "compose.build.yaml").read_text()


def test_a_folder_with_a_colon_is_rejected() -> None:
    assert volume(Path("/a b/runs"), "/runs") == ("--volume", "/a b/runs:/runs")
    with pytest.raises(UsageError, match="/a:b has a colon and cannot be mounted"):
        volume(Path("/a:b"), "/runs")
