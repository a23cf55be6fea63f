"""Run a hidden command that needs torch in a separate process, started like a training, and read its output as lines of JSON.

On a host without torch, the whole command runs in the image (`in_image`), so torch is available here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DocumentError, RunError
from trainer.cli.configuration import CHECKOUT
from trainer.cli.machine import device_for, torch_version, visible_gpus
from trainer.runs.handoff import Launch
from trainer.settings.determinism import threads_at, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.cli.train import Asked


def run_hidden_command(hidden: Sequence[str], request: Asked, *, source: Path = CHECKOUT) -> Iterator[Any]:
    """Yield each line of the hidden command's output, parsed, as soon as it is written. Raise `RunError` if the command fails.

    `source` is the checkout, or a copy of it that contains an external experiment too.
    """
    level = request.settings.determinism
    device = device_for(request.settings.accelerator, gpus=visible_gpus(), torch=torch_version(), level=level)
    launch = Launch(
        experiment=request.place.name,
        file=str(request.place.file if source != CHECKOUT else request.place.outside or request.place.file),
        device=device,
        command=["reprise", *hidden],
        started=datetime.now(UTC),
        monotonic=monotonic(),
    )
    own = {"PYTHONPATH": str(source), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environ = variables(level, threads=threads_at(level, request.settings.threads)) | own | launch.variables()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", *hidden],
        cwd=source,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout or ():
            try:
                yield json.loads(line)
            except ValueError as fault:
                process.kill()
                message = f"the process for {hidden[0].strip('_')} printed {line[:80]!r}; expected JSON"
                raise DocumentError(message, hint="does the experiment write to file descriptor 1?") from fault
    if process.returncode:
        raise RunError(f"it ended with exit code {process.returncode}", hint="the lines above say why")
