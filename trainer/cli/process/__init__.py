"""The training process: open the record, fetch the dataset, train, close the record, publish the run.

The record is closed on any failure. The launcher starts this process: it sets the variables that libraries read when they are loaded.
The stages of an attempt are in `opening`, `working`, `closing` and `telling`.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.failure import report  # noqa: F401 - loaded now: when a failure is reported, the frozen source may be deleted
from trainer.cli.output import escaping
from trainer.cli.process.closing import closing
from trainer.cli.process.opening import imported, opened
from trainer.cli.process.telling import finish
from trainer.cli.process.working import follow, require_result, work
from trainer.cli.result_stream import result_stream
from trainer.cli.train.manual import experiment_help
from trainer.runs.handoff import read_launch
from trainer.runs.run import abandon
from trainer.settings.origins import take_apart
from trainer.training.resuming.stop_requests import Stop

if TYPE_CHECKING:
    from trainer.cli.process.session import Session
    from trainer.runs.handoff import FrozenSource, Launch


def main(argv: list[str]) -> int:
    """Run the experiment that the launcher froze, or describe it."""
    stop = Stop()
    launch = read_launch(os.environ)
    if launch.frozen is None:
        stop.listen()
        experiment = imported(launch)
        print(experiment_help(experiment.name, experiment.settings), file=escaping(sys.stdout))
        return 0
    as_json = "json" in take_apart(argv).options
    with result_stream() if as_json else nullcontext(escaping(sys.stdout)) as out:
        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            return follow(launch, launch.frozen, argv, stop)
        session = _begun(launch, launch.frozen, argv, stop)
        with closing(session):
            session.trained = work(session)
            require_result(session.trained)
        return finish(session, as_json=as_json, out=out)


def _begun(launch: Launch, frozen: FrozenSource, argv: list[str], stop: Stop) -> Session:
    try:
        stop.listen()
        return opened(launch, frozen, argv, stop)
    except BaseException:
        stop.ignore()
        abandon(Path(frozen.folder))
        raise
