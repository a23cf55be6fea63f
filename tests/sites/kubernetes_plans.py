"""Plans and sites whose manifests are kept in `golden/`; `python -m tests.sites.kubernetes_plans` rewrites the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from trainer.sites.kubernetes import manifest_text
from trainer.sites.kubernetes_site import KubernetesSite
from trainer.sites.plan import Plan

GOLDEN: Final = Path(__file__).with_name("golden")
RUN: Final = "20261128t112206-icn3xh"
IMAGE: Final = f"registry.example/team/cpu@sha256:{'0' * 64}"
VARIABLES: Final = {
    "REPRISE_STORE": "s3://team/reprise",
    "REPRISE_SOURCE": f"sha256:{'1' * 64}",
    "REPRISE_IMAGE": IMAGE,
}
SITE: Final = {"kind": "kubernetes", "namespace": "research", "cpus": 4, "memory": "16Gi"}


def make_plan(**changes: Any) -> Plan:
    words = ["train", "--resume-or-begin", RUN, "--exp", "digits"]
    values = {
        "run": RUN,
        "image": IMAGE,
        "variables": VARIABLES,
        "secrets": [],
        "words": words,
        "nodes": 1,
        "devices": 1,
    }
    return Plan(**{**values, "source": f"sha256:{'2' * 64}", **changes})


def make_site(**changes: Any) -> KubernetesSite:
    return KubernetesSite.model_validate({**SITE, **changes})


_HOSTILE_WORDS: Final = [
    "train", "--resume-or-begin", RUN, "--exp", "$(HOME)", "--note", 'no: "yes"\n\t#', "- 1e3", "\u2028\x7f\U0001f600", "{{ x }}", "'",
    "a\nb\n",
]  # fmt: skip
PLANS: Final = {
    "one-node": (make_plan(), make_site()),
    "two-nodes-of-four-gpus": (
        make_plan(nodes=2, devices=8, secrets=["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
        make_site(
            gpus=4,
            secret="reprise",  # noqa: S106 - the name of an object
            shm="8Gi",
            volumes={"/cache": {"claim": "datasets"}},
            tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            labels={"kueue.x-k8s.io/queue-name": "gpus"},
        ),
    ),
    "jobset-with-odd-names": (
        make_plan(
            nodes=2,
            devices=2,
            words=_HOSTILE_WORDS,
            variables={**VARIABLES, "REPRISE_STORE": "file:///mnt/team/a%2Db", "A": "$$(B) $C $", "_0": "on", "AWS_CA_BUNDLE": "1_000"},
        ),
        make_site(
            shape="jobset",
            namespace="0",
            volumes={"/mnt/team": {"nfs": {"server": "10.0.0.7", "path": "/export"}}, "/cache": {"size": "500Mi"}},
            annotations={"example.com/0": "yes", "x": "multi\nline\n", "y": " \ttrailing \n", "z": "ü\u2029\ufeff"},
            node_selector={"a.b-c.d/E_f.g": "", "1e3": "0x10"},
            image_pull_secrets=["1.2.3"],
            pod={"priorityClassName": "null"},
        ),
    ),
}  # fmt: skip


def write_golden() -> None:
    for name, (plan, site) in PLANS.items():
        (GOLDEN / f"{name}.yaml").write_text(manifest_text(plan, site), encoding="utf-8")


if __name__ == "__main__":
    write_golden()
