"""Submitting a run to Kubernetes: the manifest, the source in the store, and a script in place of kubectl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.cli.test_submit import checkout, run
from tests.sites.pods import Pod
from tests.sites.test_kubernetes import require_strictly_valid
from trainer.base.errors import SchedulerError, UsageError
from trainer.runs.run_id import is_run_id
from trainer.runs.submitted_source import take_submitted_source

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["checkout"]

pytestmark = pytest.mark.host
SITE: Final = """kind = "kubernetes"
namespace = "research"
image = "registry.example/team/cpu@sha256:%s"
cpus = 4
memory = "16Gi"
gpus = 2
pass_on = ["NCCL_DEBUG"]
[volumes."%s"]
claim = "store"
"""
WORDS: Final = ("submit", "digits", "--to", "pods", "--nodes", "2", "--devices", "4", "--learning-rate", "1e-4")


@pytest.fixture
def store(checkout: Path, tmp_path: Path) -> Path:
    """Return the folder of a store, which is a volume of the site."""
    folder = tmp_path / "store"
    folder.mkdir()
    (checkout / "sites" / "pods.toml").write_text(SITE % ("a" * 64, folder))
    return folder


def submit(checkout: Path, tmp_path: Path, *words: str, **texts: str) -> Any:
    variables = {"REPRISE_STORE": str(tmp_path / "store"), "NCCL_DEBUG": "$(X)"}
    return run(checkout, tmp_path, *WORDS, *words, variables=variables, **texts)


def test_the_manifest_of_a_submitted_run_fetches_the_source_that_was_submitted(
    checkout: Path, tmp_path: Path, store: Path
) -> None:
    done = submit(checkout, tmp_path)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs").iterdir()
    manifest = folder / "submission" / "job.yaml"
    assert is_run_id(folder.name)
    assert done.stdout.splitlines()[-1] == f"kubectl apply --filename {manifest}"
    documents = list(yaml.safe_load_all(manifest.read_text()))
    require_strictly_valid(documents)
    [container] = documents[1]["spec"]["template"]["spec"]["containers"]
    typed = ["--exp=digits", "--devices", "4", "--learning-rate", "1e-4"]
    assert container["args"] == ["train", "--resume-or-begin", folder.name, *typed, "--trust"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["NCCL_DEBUG"] == "$$(X)"
    pod = Pod(tmp_path / "project")
    assert pod.fetch(str(store), values["REPRISE_SOURCE"]).returncode == 0
    bundle = take_submitted_source(pod.run, digest=values["REPRISE_SOURCE"])
    assert bundle is not None
    assert bundle.digest == json.loads((folder / "submission" / "plan.json").read_text())["source"]
    assert (pod.project / "trainer" / "__main__.py").is_file()


def test_a_dry_run_prints_the_manifest_and_what_the_cluster_says_and_writes_nothing(
    checkout: Path, tmp_path: Path, store: Path
) -> None:
    done = submit(checkout, tmp_path, "--dry-run", kubectl='cat >&2; echo "job.batch/x created (server dry run)"')
    assert done.returncode == 0, done.stderr
    assert [each["kind"] for each in yaml.safe_load_all(done.stdout)] == ["Service", "Job"]
    assert "created (server dry run)" in done.stderr
    assert not list(store.iterdir())
    assert not (tmp_path / "runs").exists()


def test_a_manifest_that_the_cluster_rejects_is_an_error_with_its_words(
    checkout: Path, tmp_path: Path, store: Path
) -> None:
    assert store.is_dir()
    done = submit(checkout, tmp_path, "--dry-run", kubectl='echo "admission webhook denied" >&2; exit 1')
    assert done.returncode == SchedulerError.code
    assert "the cluster does not accept the manifest: admission webhook denied" in done.stderr


def test_a_run_on_cpus_reserves_no_gpus(checkout: Path, tmp_path: Path, store: Path) -> None:
    site = checkout / "sites" / "pods.toml"
    site.write_text(site.read_text().replace("gpus = 2", "gpus = 1"))
    assert store.is_dir()
    done = submit(checkout, tmp_path, "--dry-run", "--accelerator", "cpu", kubectl="echo ok")
    assert done.returncode == 0, done.stderr
    assert "nvidia.com/gpu" not in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"registry.example/team/cpu', '"localhost/reprise/cpu', "nodes cannot pull it"),
        ('["NCCL_DEBUG"]', '["WANDB_API_KEY"]', "looks like a secret"),
        ('[volumes."', '[volumes."/other', "none of the site's volumes"),
    ],
)
def test_images_variables_and_volumes_that_pods_cannot_use_are_rejected_before_anything_is_written(
    checkout: Path, tmp_path: Path, store: Path, old: str, new: str, expected: str
) -> None:
    site = checkout / "sites" / "pods.toml"
    site.write_text(site.read_text().replace(old, new))
    done = submit(checkout, tmp_path, "--dry-run", kubectl="echo ok")
    assert done.returncode == UsageError.code, done.stderr
    assert expected in done.stderr
    assert not list(store.iterdir())
