"""Checkpoints of distributed parameters: the file of a whole state, written and read without the whole state in a process's memory."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lightning as L
import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.tensor import DTensor, Replicate

from tests.training.shards.test_elastic import write
from tests.training.shards.test_fully_sharded import FSDP, result
from trainer.base.digest import digest_of_file
from trainer.base.errors import ExperimentError, MachineError, RankError
from trainer.runs.checkpoint_pointer import FOLDER, Saved
from trainer.training.resuming.checkpoint_file import WholeCheckpointIO, read_checkpoint, write_checkpoint
from trainer.training.shards.connections import disconnect
from trainer.training.shards.fully_sharded import FullySharded
from trainer.training.shards.fully_sharded_strategy import FullyShardedDevices
from trainer.training.shards.parts import load_whole
from trainer.training.shards.place import RankPlace
from trainer.training.shards.ranks import RankEnvironment
from trainer.training.shards.tree import MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.training.conftest import Checkout

pytestmark = pytest.mark.torch
WIDTH: Final = 2560
"""Four layers of this width are 105 MB of weights, in a checkpoint of 315 MB."""
MIB: Final = 2**20


class Varied(L.LightningModule):
    """Parts of unequal size, an empty part, a shared parameter, an unused parameter, and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 7, bias=False), nn.BatchNorm1d(7), nn.Linear(7, 7), nn.Linear(7, 1))
        self.again = nn.Linear(7, 7)
        self.again.weight = self.layers[2].weight  # type: ignore[assignment] # the type of a layer is not known
        self.idle = nn.Linear(2, 2)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return `[batch, 1]`."""
        found: torch.Tensor = self.layers(given) + self.again(given.new_ones(len(given), 7)).sum()
        return found


class Wide(L.LightningModule):
    """Four large layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(4)))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return `[batch, WIDTH]`."""
        found: torch.Tensor = self.layers(given)
        return found


class Rank:
    """A process of a run with two devices: a net with distributed parameters, whose optimizer made a step."""

    def __init__(self, rank: int, folder: str, net: nn.Module) -> None:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
        place = RankPlace(rank=rank, world=2, local_rank=rank, here=2, meeting="")
        self.strategy = FullyShardedDevices(
            cluster_environment=RankEnvironment(place), checkpoint_io=WholeCheckpointIO()
        )
        self.net, self.strategy.parameters = net, FullySharded(net, torch.device("cpu"))
        self.optimizer = torch.optim.Adam(net.parameters(), fused=True)
        self.strategy.optimizers = [self.optimizer]
        self.strategy.parameters.begin_step()
        net(torch.ones(2, next(iter(net.parameters())).shape[1])).sum().backward()
        self.optimizer.step()

    def checkpoint(self) -> dict[str, Any]:
        """Return the net's and the optimizer's part of a checkpoint."""
        states = [self.strategy.optimizer_state(self.optimizer)]
        return {"state_dict": self.strategy.lightning_module_state_dict(), "optimizer_states": states, "epoch": 3}


def gathered(values: Any) -> Any:
    """Return nested values with each distributed tensor replaced by a copy of the whole tensor, in the same dict or list."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, DTensor):
            values[key] = value.full_tensor().clone()  # without the padding that torch may leave behind it
        elif isinstance(value, dict | list):
            gathered(value)
    return values


def in_two_processes(work: Callable[[int, str], Any], folder: Path) -> list[Any]:
    """Return the results of a function in two processes."""
    multiprocessing.spawn(_in_process, (work, str(folder)), nprocs=2)  # type: ignore[attr-defined,no-untyped-call] # torch has no types here
    return [json.loads((folder / f"{rank}.json").read_bytes()) for rank in (0, 1)]


def _in_process(rank: int, work: Callable[[int, str], Any], folder: str) -> None:
    found = work(rank, folder)
    disconnect(is_failed=False)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))


def _save_varied(rank: int, folder: str) -> None:
    torch.manual_seed(0)
    one = Rank(rank, folder, Varied())
    checkpoint = one.checkpoint()
    checkpoint["added"] = {
        "part": checkpoint["state_dict"]["idle.bias"],
        "everywhere": DTensor.from_local(torch.ones(3), _mesh(one), [Replicate()]),
    }
    one.strategy.save_checkpoint(checkpoint, f"{folder}/found.safetensors")
    whole = gathered(checkpoint)
    if rank == 0:
        with Path(f"{folder}/expected.safetensors").open("wb") as file:
            write_checkpoint(file, whole)


def _mesh(one: Rank) -> Any:
    part: Any = next(iter(one.net.parameters()))
    return part.device_mesh


def test_the_file_is_byte_identical_to_that_of_the_gathered_state(tmp_path: Path) -> None:
    in_two_processes(_save_varied, tmp_path)
    found, expected = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("found", "expected"))
    assert found == expected
    assert b"state_dict/again.weight" in found
    assert b"added/everywhere" in found


def _save_unequal(rank: int, folder: str) -> str:
    one = Rank(rank, folder, Varied())
    checkpoint = one.checkpoint()
    if rank == 0:
        checkpoint["only"] = checkpoint["state_dict"]["idle.bias"]
    try:
        write_checkpoint(io.BytesIO() if rank == 0 else None, checkpoint)
    except ExperimentError as fault:
        return fault.message
    return ""


def test_ranks_that_save_other_distributed_tensors_raise_instead_of_waiting(tmp_path: Path) -> None:
    messages = in_two_processes(_save_unequal, tmp_path)
    assert messages == ["the devices save different distributed tensors in a checkpoint"] * 2


def _resident(kind: str) -> int:
    """Return a memory figure of this process in bytes: `VmHWM`, `VmRSS` or `RssAnon`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def _measure(rank: int, folder: str) -> dict[str, int | bool]:
    """Save, read and load a checkpoint; return the size of the file, and how much memory each took."""
    one = Rank(rank, folder, Wide())
    one.optimizer.zero_grad()
    path = Path(folder) / "wide.safetensors"
    checkpoint = one.checkpoint()
    distributed.barrier()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    one.strategy.save_checkpoint(checkpoint, path)
    found: dict[str, int | bool] = {"saving": _resident("VmHWM") - before}
    distributed.barrier()
    before = _resident("RssAnon")
    whole: Any = read_checkpoint(path, is_mapped=True)
    found |= {"reading": _resident("RssAnon") - before, "size": path.stat().st_size}
    del checkpoint
    load_whole(one.net, whole["state_dict"], strict=True)
    one.strategy.load_optimizer_state_dict(whole)
    found["loading"] = _resident("RssAnon") - before
    del whole
    found["is_mapped"] = path.name in Path("/proc/self/maps").read_text()
    return found


@pytest.mark.trains
def test_no_rank_has_more_of_a_checkpoint_in_memory_than_its_rows_and_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # freed memory goes back to the system, so that it is not counted
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    first, second = in_two_processes(_measure, tmp_path)
    assert first["size"] > 300 * MIB
    assert first["saving"] < MESSAGE + 8 * MIB
    assert second["saving"] < 8 * MIB
    for each in (first, second):
        assert each["reading"] < 8 * MIB
        assert each["loading"] < 8 * MIB  # the rows replace those from before
        assert not each["is_mapped"]


BREAKING: Final = """    def on_save_checkpoint(self, checkpoint):
        import os, pathlib, resource, signal
        from torch import distributed
        mark, rank = pathlib.Path({mark!r}), self.trainer.global_rank
        if self.trainer.global_step < 8 or rank != {rank} or mark.exists():
            return
        mark.touch()
        {how}

    def forward"""
KILL: Final = """send, sent = distributed.send, []
        def dying(*words):
            sent.append(words)
            if len(sent) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            send(*words)
        distributed.send = dying"""
FULL: Final = "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))"


@pytest.mark.trains
@pytest.mark.parametrize(
    ("rank", "how", "error", "message"),
    [
        (1, KILL, RankError, "rank 1 of 2 was ended by SIGKILL"),
        (0, FULL, MachineError, "could not be written: File too large"),
    ],
    ids=["a killed rank", "a full disk"],
)
def test_a_failure_while_saving_ends_all_ranks_and_keeps_the_earlier_checkpoint(
    checkout: Checkout, tmp_path: Path, rank: int, how: str, error: type[MachineError], message: str
) -> None:
    broken = BREAKING.format(mark=str(tmp_path / "broken"), rank=rank, how=how)
    words = (*write(checkout, "broken.py", "    def forward", broken), "--checkpoint-every", "2")
    wide = (
        (checkout.root / "broken.py")
        .read_text()
        .replace("self.breaks = breaks", "self.breaks, self.wide = breaks, nn.Linear(256, 256)")
    )
    (checkout.root / "broken.py").write_text(wide)
    code, _, err = checkout.train(*FSDP, *words)
    assert (code, message in err) == (error.code, True), err
    folder, record = checkout.last()
    if rank == 0:
        assert "an exchange with another rank failed" in (folder / "rank-1.txt").read_text()
    saved = Saved.model_validate_json((folder / FOLDER / "latest.json").read_bytes())
    assert (saved.step, saved.sha256) == (6, digest_of_file(folder / FOLDER / saved.path))
    assert not [path.name for path in (folder / FOLDER).iterdir() if path.name.startswith(".")]
    done = checkout.reprise("train", "--resume", record.run, "--no-publish")
    assert done.returncode == 0, done.stderr
    second = folder.parent / "2"
    weights = json.loads((second / "record.json").read_bytes())["outcome"]["weights"]
    logs = ((second / name).read_bytes() for name in ("metrics.jsonl", "trace.jsonl"))
    assert (weights, *logs) == result(checkout, *FSDP, *words)[1]
