"""Runs the checks of `reprise check` in the tests' process, on synthetic datasets."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from trainer.data.declaration import load_dataset
from trainer.settings.determinism import Level, variables
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.assembly import by_role
from trainer.training.check_result import CheckStatus, Finding
from trainer.training.checks import CHECKS, CheckSubject, run_checks
from trainer.training.experiment import load_experiment
from trainer.training.readers.synthetic import make_all_synthetic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import pytest

ROOT: Final = Path(__file__).parents[1]
THREADS: Final = 1
"""More threads would spin while they wait: their waiting policy is set before torch is loaded, and here it is loaded."""
WORDS: Final = ("--determinism", "off", "--threads", str(THREADS))
STEPS: Final = 30


@contextmanager
def restored_threads() -> Iterator[None]:
    """Restore torch's number of threads after the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_checks_on(
    file: Path,
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    words: Sequence[str] = (),
    without: Collection[str] = (),
    to_first: bool = False,
    level: str = "off",
) -> dict[str, Finding]:
    """Check the experiment in `file` on synthetic data; with `to_first`, stop at the first failed check."""
    for name, value in variables(Level.OFF, threads=THREADS).items():
        patch.setenv(name, value)
    experiment = load_experiment(file.stem, file, root=ROOT)
    origins = Origins(options=parse_options(["--determinism", level, "--threads", str(THREADS), *words]), environ={})
    resolved = resolve(experiment.settings, origins)
    declared = [load_dataset(name, root=ROOT) for name in experiment.datasets(resolved.settings)]
    subject = CheckSubject(
        experiment=experiment,
        resolved=resolved,
        root=ROOT,
        datasets=by_role(resolved.settings, make_all_synthetic(declared, rows=256)),
        device="cpu",
        folder=folder,
        steps=STEPS,
    )
    checks = {name: check for name, check in CHECKS.items() if name not in without}
    findings: dict[str, Finding] = {}
    with restored_threads():
        for finding in run_checks(subject, checks):
            findings[finding.check] = finding
            if to_first and finding.status is CheckStatus.FAILED:
                break
    return findings
