"""The machines of a run: find out on which of them this process runs, from the variables of the launcher that started it.

The launcher starts one process on each machine, and this process starts the others on its machine. The variables are Reprise's own,
torchrun's or Slurm's; an incomplete set is an error that names the missing variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.errors import SettingError, UsageError
from trainer.base.suggestions import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OWN: Final = ("REPRISE_NODES", "REPRISE_NODE", "REPRISE_MAIN_ADDRESS")
_TORCHRUN: Final = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
_SLURM: Final = ("SLURM_NNODES", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_JOB_NODELIST")
_PORTS: Final = (20_000, 10_000)
"""The first port for Slurm jobs, and the number of ports; a job's port is computed from its ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """The position of a machine among a run's machines."""

    node: int
    nodes: int
    host: str
    """The name or address of node 0, at which the others reach it."""
    port: int

    def devices_here(self, devices: int) -> int:
        """Return the number of devices on each machine, of `devices` in total. Raise `SettingError` if the numbers cannot be equal."""
        if devices % self.nodes:
            message = f"setting devices is {devices}, which {self.nodes} machines cannot share equally"
            raise SettingError(
                message, hint=f"--devices counts the devices of all machines: use --devices {self.nodes}, or a multiple"
            )
        return devices // self.nodes


def read_node(environ: Mapping[str, str]) -> NodePlace | None:
    """Return the position of this machine; `None` if the run has only one. Raise `UsageError` for incomplete or invalid variables."""
    for names, read in ((_OWN, _own), (_TORCHRUN, _torchrun), (_SLURM, _slurm)):
        found = {name: environ[name] for name in names if environ.get(name)}
        if names is _SLURM and not environ.get("SLURM_STEP_ID"):
            continue  # a shell in an allocation, or a batch script: no other machine runs it
        if not found:
            continue
        if missing := [name for name in names if name not in found]:
            message = f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} set, but not {', '.join(missing)}"
            raise UsageError(message, hint=f"set all of {', '.join(names)}, or none")
        place = read(found, environ)
        if not 0 <= place.node < place.nodes:
            message = f"{names[1]} is {place.node}; expected 0 to {place.nodes - 1}, because the run has {counted(place.nodes, 'machine')}"
            raise UsageError(message, hint=f"set {names[1]} to the number of this machine, counted from 0")
        return place if place.nodes > 1 else None
    return None


def _own(found: Mapping[str, str], environ: Mapping[str, str]) -> NodePlace:
    del environ
    host, _, port = found["REPRISE_MAIN_ADDRESS"].rpartition(":")
    if not host or not port.isdecimal():
        message = f"REPRISE_MAIN_ADDRESS is {found['REPRISE_MAIN_ADDRESS']!r}; expected HOST:PORT of node 0"
        raise UsageError(message, hint="REPRISE_MAIN_ADDRESS=node0:29500")
    number = _numbers(found)
    return NodePlace(node=number("REPRISE_NODE"), nodes=number("REPRISE_NODES"), host=host, port=int(port))


def _torchrun(found: Mapping[str, str], environ: Mapping[str, str]) -> NodePlace:
    if environ.get("LOCAL_WORLD_SIZE", "1") != "1":
        message = f"LOCAL_WORLD_SIZE is {environ['LOCAL_WORLD_SIZE']}: several processes were started on this machine"
        raise UsageError(
            message, hint="start one process on each machine (--nproc-per-node 1); it starts the others for --devices N"
        )
    number = _numbers(found)
    host, port = found["MASTER_ADDR"], number("MASTER_PORT") + 1  # torchrun itself listens on the port
    return NodePlace(node=number("RANK"), nodes=number("WORLD_SIZE"), host=host, port=port)


def _slurm(found: Mapping[str, str], environ: Mapping[str, str]) -> NodePlace:
    del environ
    number = _numbers(found)
    nodes, tasks = number("SLURM_NNODES"), number("SLURM_NTASKS")
    if nodes > 1 and tasks != nodes:
        message = f"SLURM_NTASKS is {tasks} on {nodes} machines; expected one process on each machine"
        raise UsageError(
            message,
            hint="start one process on each machine (srun --ntasks-per-node 1); it starts the others for --devices N",
        )
    first, count = _PORTS
    host = first_host(found["SLURM_JOB_NODELIST"])
    return NodePlace(node=number("SLURM_NODEID"), nodes=nodes, host=host, port=first + number("SLURM_JOB_ID") % count)


def _numbers(found: Mapping[str, str]) -> Callable[[str], int]:
    def number(name: str) -> int:
        if not found[name].isdecimal():
            raise UsageError(f"{name} is {found[name]!r}; expected a number", hint=f"unset {name}, or set a number")
        return int(found[name])

    return number


def first_host(names: str) -> str:
    """Return the first machine of a list in Slurm's notation. Raise `UsageError` if the list names no machine.

    >>> first_host("gpu[03-05,9]"), first_host("a,b"), first_host("rack1-n[7]")
    ('gpu03', 'a', 'rack1-n7')
    """
    first = re.match(r"([^,\[]+)(?:\[([0-9]+)[^\]]*\])?([^,\[]*)", names)
    if first is None:
        raise UsageError(
            f"SLURM_JOB_NODELIST is {names!r}; expected names of machines", hint="set REPRISE_MAIN_ADDRESS"
        )
    return "".join(part or "" for part in first.groups())
