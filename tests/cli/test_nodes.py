from __future__ import annotations

import pytest

from trainer.base.errors import SettingError, UsageError
from trainer.cli.nodes import NodePlace, read_node

OWN = {"REPRISE_NODES": "2", "REPRISE_NODE": "1", "REPRISE_MAIN_ADDRESS": "a:29500"}
TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500", "LOCAL_WORLD_SIZE": "1"}
SLURM = {
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NODELIST": "n[01-02]",
    "SLURM_STEP_ID": "0",
}


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, None),
        (OWN, NodePlace(node=1, nodes=2, host="a", port=29500)),
        (OWN | {"REPRISE_NODES": "1", "REPRISE_NODE": "0"}, None),
        (OWN | {"REPRISE_MAIN_ADDRESS": "[::1]:80"}, NodePlace(node=1, nodes=2, host="[::1]", port=80)),
        (TORCHRUN, NodePlace(node=1, nodes=2, host="a", port=29501)),
        (SLURM, NodePlace(node=1, nodes=2, host="n01", port=24567)),
        ({name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}, None),
        (OWN | SLURM, NodePlace(node=1, nodes=2, host="a", port=29500)),
    ],
)
def test_the_place_of_a_machine_follows_from_the_variables_of_its_launcher(
    environ: dict[str, str], place: NodePlace | None
) -> None:
    assert read_node(environ) == place


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"REPRISE_NODE": "1"}, "REPRISE_NODE is set, but not REPRISE_NODES, REPRISE_MAIN_ADDRESS"),
        ({"WORLD_SIZE": "4", "RANK": "0"}, "WORLD_SIZE, RANK are set, but not MASTER_ADDR, MASTER_PORT"),
        (OWN | {"REPRISE_NODE": "2"}, "REPRISE_NODE is 2; expected 0 to 1, because the run has 2 machines"),
        (OWN | {"REPRISE_NODE": "one"}, "REPRISE_NODE is 'one'; expected a number"),
        (OWN | {"REPRISE_MAIN_ADDRESS": "a"}, "expected HOST:PORT"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}, "several processes were started on this machine"),
        (SLURM | {"SLURM_NTASKS": "8"}, "SLURM_NTASKS is 8 on 2 machines"),
    ],
)
def test_incomplete_or_invalid_variables_are_rejected_by_name(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as fault:
        read_node(environ)
    assert fault.value.hint


def test_devices_are_those_of_all_machines() -> None:
    place = NodePlace(node=0, nodes=2, host="a", port=1)
    assert place.devices_here(8) == 4
    with pytest.raises(SettingError, match="setting devices is 1, which 2 machines cannot share equally"):
        place.devices_here(1)
