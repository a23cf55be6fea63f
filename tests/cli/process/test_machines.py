from __future__ import annotations

from typing import Any

import pytest

from tests.records import circumstances, ingredients
from trainer.cli.process.machines import Announcement, difference
from trainer.runs.identify import Identified
from trainer.runs.record import Determinism, Host

RUN = "20261130t080000-abcdef"
OTHER = Host(name="h", system="Debian", kernel="Linux 6", cpu="another CPU", cores=2, memory=8 << 30)
PORTABLE = Determinism(level="portable", threads=1)


def mine(*, inputs: dict[str, Any] | None = None, **around: Any) -> Identified:
    given: dict[str, Any] = {"execution": {"devices": 4}} | around
    return Identified(ingredients=ingredients(**(inputs or {})), circumstances=circumstances(**given))


@pytest.mark.parametrize(
    ("here", "inputs_of_0", "message"),
    [
        (mine(), {}, None),
        (
            mine(inputs={"settings": {"seed": 1, "learning_rate": 0.001}}),
            {},
            "settings seed is 1 here, but 0 on node 0",
        ),
        (mine(inputs={"settings": {"learning_rate": 0.001}}), {}, "settings seed is None here, but 0 on node 0"),
        (mine(inputs={"lock": None}), {}, "lock is None here, but sha256:"),
        (mine(execution={"devices": 2}), {}, "setting devices is 2 here, but 4 on node 0"),
        (mine(host=OTHER), {}, "its processor is another CPU, but a CPU on node 0"),
        (mine(host=OTHER, inputs={"determinism": PORTABLE}), {"determinism": PORTABLE}, None),
    ],
)
def test_a_machine_names_the_first_input_that_is_not_as_on_node_0(
    here: Identified, inputs_of_0: dict[str, Any], message: str | None
) -> None:
    announced = Announcement(run=RUN, ingredients=ingredients(**inputs_of_0), devices=4, cpu="a CPU")
    found = difference(announced, here)
    assert (found is None) == (message is None), found
    assert found is None or found.startswith(message or "")
