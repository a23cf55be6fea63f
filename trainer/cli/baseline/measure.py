"""The hidden command that trains for `reprise baseline`.

It reads its arguments like the training process, and determines the key of its environment. It writes no baseline.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trainer.base.digest import digest_of_file
from trainer.cli.output import result_stream
from trainer.cli.process.attempt import attribute_errors, import_experiment, resolve_settings
from trainer.comparison.baseline import EnvironmentKey, code_of
from trainer.data.declaration import declaration, load_dataset
from trainer.runs.handoff import read_launch
from trainer.runs.hardware import read_host
from trainer.runs.image_claim import claim_image
from trainer.runs.imported_files import read_imported


def main(argv: list[str]) -> int:
    """Train with `argv[0]` seeds and `argv[1]` nudges; print the environment, the code's digest and all metrics as one line of JSON."""
    seeds, nudges, *arguments = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-baseline-") as folder:
        from trainer.training.checks.short_training import perturbed_results, seed_results, small_subject

        root = Path.cwd()
        experiment = import_experiment(read_launch(os.environ))
        resolved = resolve_settings(experiment, arguments)
        declared = load_dataset(resolved.settings.dataset, root=root)
        subject = small_subject(experiment, resolved, declared, root=root, folder=Path(folder))
        with attribute_errors(experiment):
            measured: dict[str, Any] = {
                "results": list(seed_results(subject, seeds=int(seeds))),
                "nudged": list(perturbed_results(subject, times=int(nudges))),
            }
        measured |= {
            "key": environment_key(root).model_dump(),
            "image": claim_image(os.environ, run=None).image.manifest,
            "code": code_of(root, experiment.file, declaration(declared.name, root=root)),
            "imported": code.digest if (code := read_imported(root)) else None,
        }
        print(json.dumps(measured), file=out, flush=True)
    return 0


def environment_key(root: Path) -> EnvironmentKey:
    """Return this environment's key: the checkout's lock, the Python version, the CPU."""
    version = ".".join(platform.python_version_tuple()[:2])
    return EnvironmentKey(lock=digest_of_file(root / "uv.lock"), python=version, device=read_host().cpu)
