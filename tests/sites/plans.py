"""Plans and sites for tests, and shell scripts in place of Slurm's programs and an engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from trainer.sites.plan import Plan, PlannedPoint
from trainer.sites.site import SlurmSite

if TYPE_CHECKING:
    from pathlib import Path

RUN: Final = "20260301t120005-abcdef"
DIGEST: Final = f"sha256:{'a' * 64}"
IMAGE: Final = f"registry.example/team/cpu@{DIGEST}"


def plan(**changes: Any) -> Plan:
    """Return the plan of a run on two machines."""
    given: dict[str, Any] = {
        "run": RUN,
        "image": IMAGE,
        "variables": {
            "REPRISE_IMAGE": IMAGE,
            "REPRISE_IMAGE_CONFIG": f"sha256:{'c' * 64}",
            "REPRISE_STORE": "s3://lab",
        },
        "secrets": ["AWS_ACCESS_KEY_ID"],
        "words": ["train", "--resume-or-begin", RUN, "--exp=digits", "--devices=2"],
        "nodes": 2,
        "devices": 2,
        "source": f"sha256:{'b' * 64}",
    }
    return Plan(**given | changes)


SWEEP: Final = "20260302t090000-sweeps"
"""The sweep of `sweep_plan`."""


def sweep_plan(**changes: Any) -> Plan:
    """Return the plan of points 1, 2 and 4 of a sweep."""
    points = [
        PlannedPoint(number=number, run=f"20260302t09000{number}-abcdef", words=[f"--seed={number}", "--sizes=[8, 16]"])
        for number in (1, 2, 4)
    ]
    words = ["train", "--exp=digits", "--max-epochs=3"]
    return plan(**{"run": SWEEP, "words": words, "nodes": 1, "devices": 1, "points": points, "parallel": 2, **changes})


def rerun_plan(**changes: Any) -> Plan:
    """Return the plan of a rerun of a recorded run."""
    words = ["reproduce", "20260228t100000-qwerty", "--resume-or-begin", RUN]
    return plan(**{"words": words, "nodes": 1, "devices": 1, **changes})


def certificate_plan(**changes: Any) -> Plan:
    """Return the plan of a certificate, whose first run is the plan's run."""
    words = ["certify", "rerun", "digits", "--max-steps=8", f"--first-run={RUN}"]
    return plan(**{"words": words, "nodes": 1, "devices": 1, **changes})


def site(runtime: str = "docker", **changes: Any) -> SlurmSite:
    """Return a Slurm site."""
    return SlurmSite.model_validate({"kind": "slurm", "runtime": runtime, "cache": "/var/cache/reprise", **changes})


def programs(folder: Path, **texts: str) -> dict[str, str]:
    """Write shell scripts by name into a folder; return an environment whose PATH begins with the folder."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
