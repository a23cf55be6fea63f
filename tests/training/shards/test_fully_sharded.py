"""Parameters that are distributed over devices: bit-identical on the same number of devices, and rejected on another number."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing, nn
from xxhash import xxh3_64_hexdigest

from tests.training.shards.test_elastic import write
from trainer.base.errors import ExperimentError, SettingError, UsageError
from trainer.runs.record import RunStatus
from trainer.training.failures import attributed
from trainer.training.shards.connections import disconnect
from trainer.training.shards.fully_sharded import FullySharded, blocks_of, unsuitable
from trainer.training.shards.fully_sharded_strategy import FullyShardedDevices
from trainer.training.shards.parts import load_whole
from trainer.training.tracing.fingerprints import device_prints

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = pytest.mark.torch
SHARDS: Final = ("--threads", "1", "--batch-size", "8", "--no-publish", "--devices", "2")
FSDP: Final = (*SHARDS, "--strategy", "fsdp")
LAYERS: Final = (
    "nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(16, classes))",
    """nn.Sequential(
            nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(), nn.Flatten(),
            nn.Linear(12, 7), nn.Linear(7, 7), nn.Linear(7, classes),
        )
        self.again, self.idle = nn.Linear(7, 7), nn.Linear(2, 2)
        self.again.weight = self.layers[6].weight
        self.scale = nn.Parameter(self.idle.bias.detach()[:1] + 1)""",
)
"""Layers with parts of unequal size, an empty part, a shared parameter, a parameter of the net itself, and an unused parameter."""
FORWARD: Final = ("self.layers(images.T if self.breaks else images)", "self.scale * self.layers(images)")


def result(checkout: Checkout, *words: str) -> tuple[Path, tuple[Any, ...]]:
    """Train, and return the attempt's folder with the digest of the weights, the metrics and the trace."""
    code, _, err = checkout.train(*words)
    assert code == 0, err
    folder, record = checkout.last()
    return folder, (
        record.outcome.weights,
        *((folder / name).read_bytes() for name in ("metrics.jsonl", "trace.jsonl")),
    )


def varied(checkout: Checkout) -> tuple[str, str]:
    """Write the variant of the experiment with every kind of parameter."""
    write(checkout, "parts.py", *LAYERS)
    code = (checkout.root / "parts.py").read_text()
    assert FORWARD[0] in code
    (checkout.root / "parts.py").write_text(code.replace(*FORWARD))
    return "--exp", "parts.py"


@pytest.mark.trains
def test_trainings_have_equal_bits_and_the_weights_of_a_training_with_whole_parameters(checkout: Checkout) -> None:
    words = (*varied(checkout), "--accumulate", "2", "--clip-norm", "0.1", "--weight-decay", "0.1", "--trace", "full")
    folder, first = result(checkout, *FSDP, *words)
    assert result(checkout, *FSDP, *words)[1] == first
    device = checkout.last()[1].ingredients.device
    assert (device.world_size, device.shards, device.parallelism) == (2, 2, "fsdp")
    other, _ = result(checkout, *SHARDS, *words)
    found, expected = (load_file(each / "weights.safetensors") for each in (folder, other))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    traces = [
        [json.loads(line) for line in (each / "trace.jsonl").read_bytes().splitlines()] for each in (folder, other)
    ]
    assert [each.get("random") for each in traces[0]] == [each.get("random") for each in traces[1]]
    _require_fingerprints(traces[0], found)


def _require_fingerprints(trace: list[dict[str, Any]], weights: dict[str, torch.Tensor]) -> None:
    """Compare the last step's fingerprint, which the ranks computed from parts, with the fingerprint of the whole weights."""
    assert trace[0]["algorithm"] == "weighted-sum-64"
    prints = device_prints([weights[name] for name in trace[0]["tensors"]]).tolist()
    packed = b"".join((value % 2**64).to_bytes(8, "big") for value in prints)
    assert [line for line in trace if "weights" in line][-1]["weights"] == xxh3_64_hexdigest(packed)


@pytest.mark.trains
def test_a_killed_run_is_resumed_on_equally_many_devices_only_with_the_same_bits(
    checkout: Checkout, tmp_path: Path
) -> None:
    killing = (
        "        import os, pathlib, signal\n"
        f"        mark = pathlib.Path({str(tmp_path / 'killed')!r})\n"
        "        if self.training and self.trainer.global_step == 8 and self.trainer.global_rank == 0 and not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self"
    )
    words = (*write(checkout, "killed.py", "        return self", killing), "--checkpoint-every", "2")
    code, _, err = checkout.train(*FSDP, *words)
    assert code == -signal.SIGKILL, err
    folder, record = checkout.last()
    for devices in ("1", "4"):
        done = checkout.reprise("train", "--resume", record.run, "--devices", devices, "--no-publish")
        said = f"setting strategy is fsdp with 2 shards and --devices {devices}"
        assert (done.returncode, said in done.stderr) == (SettingError.code, True), done.stderr
        assert "use --devices 2" in done.stderr
    done = checkout.reprise("train", "--resume", record.run, "--no-publish")
    assert done.returncode == 0, done.stderr
    second = folder.parent / "2"
    found = json.loads((second / "record.json").read_bytes())["outcome"]
    assert found["status"] == RunStatus.COMPLETED
    logs = ((second / name).read_bytes() for name in ("metrics.jsonl", "trace.jsonl"))
    assert (found["weights"], *logs) == result(checkout, *FSDP, *words)[1]


@pytest.mark.trains
def test_the_weights_are_loaded_and_reproduced_as_those_of_any_run(checkout: Checkout) -> None:
    result(checkout, *FSDP, "--max-epochs", "1")
    record = checkout.last()[1]
    code = (
        "from trainer import runs; from trainer.base.digest import digest_of_document as digest\n"
        "from trainer.training.tracing.trace import described\n"
        f"state = runs.load({record.run!r}).net().state_dict()\n"
        "print(digest({name: described(value) for name, value in state.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout.root,
        env=checkout.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == record.outcome.weights, done.stderr
    again = checkout.reprise("reproduce", record.run, "--no-container", "--allow-drift")
    assert (again.returncode, "identical" in again.stdout) == (0, True), again.stderr


class Wrong(nn.Module):
    """A net with the given mistake."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake
        self.layers: Any
        self.experts: Any
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.own = nn.Parameter(torch.ones(3))
        self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return `[batch, 4]`."""
        if self.mistake == "changes":
            with torch.no_grad():
                self.own.clamp_(0, 0.5)
        if self.mistake == "mixes":
            given = given * self.layers[0].weight.norm()
        if self.mistake == "branches":
            given = self.experts[distributed.get_rank()](given)
        found: torch.Tensor = self.layers(given) * self.own.sum()
        return found

    def training_step(self, given: torch.Tensor, _: int) -> torch.Tensor:
        """Return the loss."""
        loss: torch.Tensor = self(given).square().mean()
        if self.mistake == "reads":
            loss = loss + self.layers[0].weight.norm()
        return loss

    validation_step = test_step = training_step


def _observe(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {mistake: _step(mistake) for mistake in ("none", "changes", "reads", "mixes", "branches")}
    disconnect(is_failed=False)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))


def _step(mistake: str) -> str:
    """Compute the gradients of a step; return the number of used parameters and the order of the exchanges, or the error."""
    torch.manual_seed(0)
    net = Wrong(mistake)
    try:
        parameters = FullySharded(net, torch.device("cpu"))
        parameters.begin_step()
        parameters.begin_shard()
        net.training_step(torch.ones(2, 4), 0).backward()  # type: ignore[no-untyped-call] # torch has no types here
        parameters.end_step()
    except (ExperimentError, RuntimeError) as fault:
        return f"{type(fault).__name__}: {fault}"
    return f"{len(parameters.used)} used, order {parameters.order}"


def test_what_would_be_computed_wrongly_is_noticed(tmp_path: Path) -> None:
    multiprocessing.spawn(_observe, (str(tmp_path),), nprocs=2)  # type: ignore[attr-defined,no-untyped-call] # torch has no types here
    first, second = (json.loads((tmp_path / f"{rank}.json").read_bytes()) for rank in (0, 1))
    assert first["none"] == second["none"]
    assert first["none"].startswith("5 used")
    assert "changes its parameter own in a step" in first["changes"]
    assert "the loss uses parameter layers.0.weight outside of the call of the module" in first["reads"]
    mixed = attributed(RuntimeError(first["mixes"]), file=Path(__file__), root=tmp_path, net="Wrong")
    assert "uses a distributed parameter outside of the call" in str(mixed)
    assert first["branches"] != second["branches"]  # the strategy compares the orders of all ranks


def test_ranks_that_call_different_modules_are_rejected() -> None:
    with pytest.raises(ExperimentError, match="call different modules of the net in one step"):
        FullyShardedDevices().end_step({1, 2})


@pytest.mark.trains
@pytest.mark.parametrize("words", [("--ema-decay", "0.9"), ("--precision", "16-mixed")])
def test_settings_that_parts_do_not_support_are_rejected_by_name(checkout: Checkout, words: tuple[str, str]) -> None:
    code, _, err = checkout.train(*FSDP, *words)
    name = words[0][2:].replace("-", "_")
    assert (code, f"strategy is fsdp, which does not support {name} {words[1]}" in err) == (SettingError.code, True), (
        err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--strategy", "fsdp"),
            "setting strategy is fsdp, which distributes the parameters over devices, but devices is 1",
        ),
        (("--strategy", "fsdp", "--devices", "2", "--shards", "4"), "with 4 shards and --devices 2"),
    ],
)
def test_another_number_of_shards_than_devices_is_rejected(
    checkout: Checkout, words: tuple[str, ...], message: str
) -> None:
    code, _, err = checkout.train(*words)
    assert (code, message in err) == (SettingError.code, True), err


def test_an_elastic_certificate_is_rejected(checkout: Checkout) -> None:
    done = checkout.reprise("certify", "elastic", "dots.py", "--strategy", "fsdp")
    assert (done.returncode, "--strategy fsdp is not elastic" in done.stderr) == (UsageError.code, True), done.stderr


class Versioned(nn.Module):
    """A module that doubles the weights of its first version."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any) -> None:
        if local_metadata.get("version") != 2:
            state_dict[f"{prefix}scale"] *= 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)


def test_whole_weights_are_loaded_with_the_versions_of_their_modules() -> None:
    net = Versioned()
    load_whole(net, Versioned().state_dict(), strict=True)
    assert net.scale.tolist() == [1.0, 1.0]


def test_blocks_are_the_elements_of_lists_that_share_no_parameter() -> None:
    inner = nn.ModuleList([nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))])
    first, head = nn.Linear(2, 2), nn.Linear(2, 2)
    head.weight = first.weight
    net = nn.ModuleDict({"layers": nn.ModuleList([first, nn.ReLU(), inner]), "heads": nn.ModuleList([head])})
    assert blocks_of(net) == [*inner]


def test_a_net_with_sparse_gradients_or_several_dtypes_is_unsuitable() -> None:
    assert "sparse" in str(unsuitable(nn.Sequential(nn.Embedding(2, 2, sparse=True))))
    assert "is a scalar" in str(unsuitable(nn.ParameterList([nn.Parameter(torch.tensor(1.0))])))
    assert "different dtypes" in str(unsuitable(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).double())))
    assert unsuitable(nn.Linear(1, 1)) is None


def test_the_fingerprints_of_parts_sum_to_that_of_the_whole_tensor() -> None:
    whole = [torch.randn(777, 5), torch.arange(3000, dtype=torch.int64), torch.randn(3)]
    total = torch.zeros(3, dtype=torch.int64)
    for start, end in pairwise((0, 401, 401, 777)):
        rows = [(min(start, len(each)), min(end, len(each)) if end < 777 else len(each)) for each in whole]
        parts = [each[first:last] for each, (first, last) in zip(whole, rows, strict=True)]
        total += device_prints(parts, [first * each[0].numel() for each, (first, _) in zip(whole, rows, strict=True)])
    assert total.tolist() == device_prints(whole).tolist()
