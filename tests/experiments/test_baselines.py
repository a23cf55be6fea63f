"""Each experiment, trained at small scale on synthetic data of its dataset, has the results in `tests/baselines/`.

Otherwise, the message states the code and the environment with which the baseline was written. `reprise baseline refresh` shows the
changes, and writes them with a reason.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.checking import ROOT, THREADS, WORDS, restored_threads
from trainer.base.document import read_json
from trainer.cli.baseline import environment_key
from trainer.comparison.baseline import FOLDER, Baseline, compare_with_entry, digest_of_code
from trainer.data.declaration import declaration, load_dataset
from trainer.settings.determinism import Level, variables
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.checks.short_training import seed_results, small_subject
from trainer.training.experiment import load_experiment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
FILES = sorted((ROOT / "trainer/experiments").glob("[!_]*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_each_experiment_matches_its_baseline(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / FOLDER / f"{file.stem}.json"
    if not path.is_file():
        pytest.skip(f"needs a baseline: reprise baseline refresh {file.stem} --why 'it is new'")
    for name, value in variables(Level.OFF, threads=THREADS).items():
        monkeypatch.setenv(name, value)
    experiment = load_experiment(file.stem, file, root=ROOT)
    resolved = resolve(experiment.settings, Origins(options=parse_options(WORDS), environ={}))
    declared = [load_dataset(name, root=ROOT) for name in experiment.datasets(resolved.settings)]
    key, code = (
        environment_key(ROOT),
        digest_of_code(ROOT, file, *(declaration(each.name, root=ROOT) for each in declared)),
    )
    entry = read_json(path, Baseline).nearest(key)
    assert entry
    with restored_threads():
        found = next(seed_results(small_subject(experiment, resolved, declared, root=ROOT, folder=tmp_path), seeds=1))
    verdict = compare_with_entry(entry, key=key, code=code, metrics=found)
    lines = "\n".join([f"{file.stem}: {verdict.summary}", *verdict.changes])
    if verdict.changes:
        sys.stdout.write(f"{lines}\n")
    assert verdict.holds, f"{lines}\nif the change is intended: reprise baseline refresh {file.stem} --why TEXT"
