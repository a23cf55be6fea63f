"""A pod on this machine: its folders, and the program of its init container."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sites.kubernetes_plans import make_plan, make_site
from trainer.runs.submitted_source import SUBMITTED
from trainer.sites.kubernetes import manifests

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pod:
    """The folders of a pod."""

    project: Path

    @property
    def run(self) -> Path:
        """A run's folder."""
        return self.project / "runs" / "one"

    def fetch(self, store: str, digest: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the program of the manifest as the pod runs it."""
        [document] = manifests(make_plan(), make_site())
        _, *command = document["spec"]["template"]["spec"]["initContainers"][0]["command"]
        words = [word.replace("$$", "$") for word in command]
        self.run.mkdir(parents=True)
        return subprocess.run(
            [sys.executable, *words, self.project, self.project / "runs" / SUBMITTED],
            env={**os.environ, "REPRISE_STORE": store, "REPRISE_SOURCE": digest, **environ},
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
        )
