"""`reprise train --resume RUN` for code that is not the user's own: resumes the run in an isolated container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.cli.configuration import CHECKOUT, dotenv_adopted, host_name, runs_folder
from trainer.cli.output import print_progress
from trainer.cli.ownership import hand_over
from trainer.cli.resume import options_of
from trainer.cli.runner.on_host import OnHost
from trainer.cli.spelling import spelled
from trainer.cli.train.container import require_set_up
from trainer.comparison.examine_run import find_datasets
from trainer.comparison.reproduce import prepare_rerun
from trainer.data.declaration import Dataset
from trainer.runs.resume import move_seen_image, require_not_running, require_resumable, require_source
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from trainer.cli.resume import Admission
    from trainer.settings.origins import Words


def resume_isolated(words: Words, admission: Admission) -> int:
    """Run the next attempt in the recorded image; return its exit status. Raise `ResumeError`, `DigestMismatchError`, `EngineError`."""
    folder, granted = admission.folder, admission.word.granted
    require_set_up(CHECKOUT)
    require_not_running(folder)
    record = require_resumable(folder, here=host_name())
    require_source(folder, record.ingredients.source, unpack_again=True)
    bundle = load_bundle(folder / ARCHIVE, digest=record.ingredients.source)
    move_seen_image(folder)
    more = options_of(words, without={"resume", "trust", "grant", "json", "publish", "no_publish"})
    kept = [] if "store" in granted else ["--no-publish"]
    offline = [] if granted or record.circumstances.execution.get("wandb", "off") == "off" else ["--wandb=off"]
    with dotenv_adopted():
        there = OnHost(granted)
        print_progress(f"resuming run {record.run}: {there.isolation}")
        with prepare_rerun(record, bundle, runs=runs_folder(), resumes=folder, more=(*more, *kept, *offline)) as ready:
            there.lend([item for item in find_datasets(record, bundle) if isinstance(item, Dataset)], ready)
            hand_over(folder, checkout=CHECKOUT)
            code, _ = there.run(ready)
    if "store" not in granted:
        print_progress(
            spelled(f"not published, because the container had no keys; to publish: reprise runs publish {record.run}")
        )
    return code
