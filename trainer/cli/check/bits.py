"""`reprise check --bits`: finds the first value that is not deterministic.

The hidden command `_observe` runs a few steps twice in one process. If every value is equal, another process runs the steps once more. The
module and the operation of the first difference are named.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DocumentError, RunError
from trainer.base.suggestions import counted
from trainer.cli.experiment_loading import attribute_errors, datasets_of, import_experiment, resolve_settings
from trainer.cli.output import escaping, print_json, print_result, result_stream
from trainer.cli.process.fetching import fetch_data
from trainer.cli.trainings import frozen_checkout, run_hidden_command
from trainer.comparison.observation import (
    Kind,
    ObservedValue,
    describe_different_operation,
    describe_value,
    first_different_value,
    responsible_module,
)
from trainer.comparison.verdict import VerdictLevel
from trainer.runs.handoff import read_launch
from trainer.settings.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.cli.train.command_line import TrainRequest
    from trainer.training.tracing.observe import ObservedTraining


def print_first_difference(request: TrainRequest, *, steps: int, as_json: bool) -> int:
    """Print the first difference; return 0 if every bit is equal, else 20. Both processes run the same copy of the source."""
    with frozen_checkout(request) as (source, arguments):
        result = _first_difference(request, arguments, steps=steps, source=source)
    print_result(result, result["summary"], as_json=as_json)
    return 0 if result["equal"] else VerdictLevel.DIFFERENT.code


def _first_difference(request: TrainRequest, arguments: Sequence[str], *, steps: int, source: Path) -> dict[str, Any]:
    """Return the document about the first value that differs within a process, then between two processes."""
    observation = _observe(request, arguments, steps=steps, times=2, source=source)
    between, number = "twice in one process", len(observation["values"])
    steps = require_steps(_observed_values(observation))
    first = _observed_value(observation["first_difference"]) if observation["first_difference"] else None
    if first is None:
        repetition = _observe(request, arguments, steps=steps, times=1, source=source)
        first = first_different_value(_observed_values(observation), _observed_values(repetition))
        between = "in two processes"
    if first is None:
        message = (
            f"clean: {number} values of {counted(steps, 'step')} are equal, twice in one process and in another process"
        )
        return {"equal": True, "summary": message, "steps": steps, "values": number}
    lines = [
        f"{request.experiment.name}, {between}: {describe_value(first)}",
        *([f"  {observation['operation']}"] if observation["operation"] else []),
    ]
    return {
        "equal": False,
        "summary": "\n".join(lines),
        "between": between,
        "step": first.step,
        "kind": first.kind,
        "name": first.name,
        "module": responsible_module(first),
        "operation": observation["operation"],
    }


def require_steps(values: Sequence[ObservedValue]) -> int:
    """Return the number of observed steps, which may be less than requested. Raise `RunError` if it is 0."""
    steps = max((value.step for value in values), default=0)
    if not steps:
        raise RunError(
            "the run took no step, so no value was compared", hint="train for more epochs or steps: --max-epochs 1"
        )
    return steps


def _observed_values(observation: dict[str, Any]) -> list[ObservedValue]:
    return [_observed_value(values) for values in observation["values"]]


def _observed_value(values: list[Any]) -> ObservedValue:
    step, kind, *rest = values
    return ObservedValue(step, Kind(kind), *rest)


def _observe(
    request: TrainRequest, arguments: Sequence[str], *, steps: int, times: int, source: Path
) -> dict[str, Any]:
    hidden = ["_observe", str(steps), str(times), *arguments]
    lines: list[dict[str, Any]] = list(run_hidden_command(hidden, request, source=source))
    if len(lines) != 1:
        raise DocumentError(
            "the observing process printed no result", hint="remove calls of exit() from the experiment"
        )
    return lines[0]


def print_observation(argv: list[str]) -> int:
    """Observe `argv[0]` steps `argv[1]` times; print the observed values as one line of JSON."""
    steps, times, *arguments = argv
    with result_stream() as out, TemporaryDirectory() as folder:
        subject = _subject(arguments, steps=int(steps), folder=Path(folder))
        with attribute_errors(subject.experiment):
            from trainer.training.tracing.observe import observe

            observations = [observe(subject).values for _ in range(int(times))]
            first = first_different_value(observations[0], observations[-1])
            operation = _operation(subject, first) if first else None
            print_json({"values": observations[0], "first_difference": first, "operation": operation}, file=out)
    return 0


def _subject(arguments: list[str], *, steps: int, folder: Path) -> ObservedTraining:
    from trainer.training.assembly import by_role
    from trainer.training.tracing.observe import ObservedTraining

    launch = read_launch(os.environ)
    experiment, root = import_experiment(launch), Path.cwd()
    resolved = resolve_settings(experiment, arguments)
    declared = datasets_of(experiment, resolved.settings)
    return ObservedTraining(
        experiment=experiment,
        ledger=Ledger(resolved, root=root),
        datasets=by_role(resolved.settings, ((each, fetch_data(each, say=_print_note)) for each in declared)),
        device=launch.device,
        steps=steps,
        folder=folder,
    )


def _print_note(line: str) -> None:
    print(line, file=escaping(sys.stderr))


def _operation(subject: ObservedTraining, first: ObservedValue) -> str | None:
    """Train twice more, and describe the first operation that differs.

    Return `None` if the initial values or a batch differ, which no operation explains, or if both runs are equal.
    """
    from trainer.training.tracing.observe import Window, observe

    if first.kind in {Kind.START, Kind.BATCH}:
        return None
    if first.kind in {Kind.BACKWARD, Kind.GRADIENT, Kind.WEIGHT}:
        window = Window(step=first.step, part="optimizer" if first.kind is Kind.WEIGHT else "backward")
    else:
        window = Window(
            step=first.step, name=responsible_module(first), call=first.call if first.kind is Kind.OUTPUT else 1
        )
    return describe_different_operation(*(observe(subject, window=window).ops for _ in range(2)))
