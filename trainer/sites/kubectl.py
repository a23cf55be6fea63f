"""The validation of a manifest by a cluster, with kubectl. The call has a time limit."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

from trainer.base.errors import SchedulerError

_SECONDS: Final = 60.0
_LONGEST: Final = 500
"""The maximum number of characters of kubectl's output in a message."""


def has_kubectl() -> bool:
    """Return whether this machine has kubectl."""
    return shutil.which("kubectl") is not None


def test(manifest: str) -> str:
    """Validate a manifest in a dry run on the cluster of kubectl's configuration, and return kubectl's output.

    Raise `SchedulerError` if the cluster rejects the manifest or does not respond.
    """
    words = ["kubectl", "apply", "--dry-run=server", "--validate=strict", "--filename=-"]
    try:
        done = subprocess.run(
            words, input=manifest.encode(), capture_output=True, timeout=_SECONDS, check=False, start_new_session=True
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        message = (
            f"kubectl did not respond within {_SECONDS:.0f} s"
            if isinstance(fault, subprocess.TimeoutExpired)
            else str(fault)
        )
        raise SchedulerError(message, hint="kubectl version shows whether the cluster responds") from fault
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:_LONGEST]
        message = f"the cluster does not accept the manifest: {said or f'kubectl ended with {done.returncode}'}"
        raise SchedulerError(
            message, hint="kubectl config current-context shows which cluster was asked; correct the site"
        )
    return " ".join(done.stdout.decode(errors="replace").split())
