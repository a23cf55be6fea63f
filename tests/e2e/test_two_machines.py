"""Two containers in one network train as two machines, bit-identical to a run in one process."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.e2e.conftest import House

pytestmark = [pytest.mark.engine, pytest.mark.long]
WORDS = ("train", "--exp", "digits", "--max-epochs", "1", "--threads", "1", "--no-publish")
RUN = re.compile(r"^run (\d{8}t\d{6}-\w{6}): ", re.MULTILINE)


def start(house: House, node: int) -> subprocess.Popen[str]:
    main = f"{house.root.name}-machine-0"
    place = {"REPRISE_NODES": "2", "REPRISE_NODE": str(node), "REPRISE_MAIN_ADDRESS": f"{main}:29500"}
    given = [word for name, value in place.items() for word in ("-e", f"{name}={value}")]
    name = f"{house.root.name}-machine-{node}"
    return house.start("docker", "compose", "run", "--rm", "--name", name, *given, *WORDS, "--devices", "2")


def test_two_containers_have_the_bits_of_one_process(house: House) -> None:
    alone = house.train(*WORDS[1:], "--shards", "2")
    assert alone.code == 0, alone.text
    machines = [start(house, node) for node in (0, 1)]
    texts = ["".join(machine.communicate(timeout=500)) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], texts
    records = [house.record(RUN.findall(text)[0]) for text in (alone.text, texts[0])]
    one, two = ({name: record["outcome"][name] for name in ("weights", "metrics")} for record in records)
    assert one == two, json.dumps(records)[:2000]
    [node] = records[1]["circumstances"]["nodes"]
    assert (node["devices"], node["drift"]) == (1, [])
    assert f"node 1 of 2 of run {records[1]['run']}" in texts[1]
