"""Shards in any number of processes result in bit-identical weights, metrics and traces."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import ExperimentError, PreemptedError, RankError, StoppedError
from trainer.runs.record import RunStatus
from trainer.runs.run_id import new_run_id

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
FILES = ("metrics.jsonl", "trace.jsonl", "figures.json")
ARGUMENTS = ("--threads", "1", "--batch-size", "8", "--no-publish", "--accumulate", "2")


def write(checkout: Checkout, name: str, old: str, new: str) -> tuple[str, str]:
    """Write a variant of the experiment, and return the option that trains it."""
    code = (checkout.root / "dots.py").read_text()
    assert old in code
    (checkout.root / name).write_text(code.replace(old, new))
    return "--exp", name


def results(checkout: Checkout, *argv: str) -> tuple[str, bytes, bytes, bytes]:
    """Train, and return the digest of the weights, the metrics, the trace and the figures."""
    code, _, err = checkout.train(*ARGUMENTS, *argv)
    assert code == 0, err
    folder, record = checkout.last()
    assert record.outcome.weights is not None
    metrics, trace, figures = ((folder / name).read_bytes() for name in FILES)
    return record.outcome.weights, metrics, trace, figures


def test_one_and_two_processes_have_the_same_bits(checkout: Checkout) -> None:
    net = write(checkout, "normed.py", "nn.ReLU()", "nn.BatchNorm2d(4), nn.ReLU()")
    code = (checkout.root / "normed.py").read_text()
    (checkout.root / "normed.py").write_text(
        code.replace("        return self", "        self.log('brightness', images.mean())\n        return self")
    )
    one, two = (results(checkout, *net, "--shards", "4", "--devices", count) for count in ("1", "2"))
    assert one == two
    assert b'"brightness"' in one[1]
    record = checkout.last()[1]
    assert (record.ingredients.device.shards, record.ingredients.device.world_size) == (4, None)
    assert record.circumstances.execution["devices"] == 2


@pytest.mark.long
def test_four_processes_have_the_bits_of_one_and_other_shards_have_other_bits(checkout: Checkout) -> None:
    one, four = (results(checkout, "--shards", "4", "--devices", count) for count in ("1", "4"))
    assert one == four
    assert results(checkout, "--shards", "2")[0] != one[0]


@pytest.mark.long
def test_an_elastic_training_is_certified(checkout: Checkout) -> None:
    done = checkout.reprise("certify", "elastic", "dots.py", "--threads", "1", "--no-publish", "--batch-size", "8")
    assert done.returncode == 0, done.stderr
    assert "elastic holds: trained on 1, 2, 4 devices, and begun on 4, killed after step" in done.stdout
    paths = {line.split()[-1] for line in done.stderr.splitlines() if line.endswith("elastic.json")}
    assert len(paths) == 4  # for the runs on one, two and four devices, and the resumed run
    assert checkout.reprise("verify", paths.pop()).returncode == 0


def test_a_run_stopped_on_two_devices_is_resumed_on_one_with_the_same_bits(checkout: Checkout) -> None:
    slow = write(checkout, "slow.py", "return self", "import time; time.sleep(0.05); return self")
    whole = results(checkout, *slow, "--shards", "2")
    process = checkout.start(*ARGUMENTS, *slow, "--devices", "2")
    assert process.stderr is not None
    known = {*(checkout.root / "runs").iterdir()}
    while not (found := [*(checkout.root / "runs").glob("*/attempts/1/trace.jsonl")]) or not any(
        path.read_bytes().count(b"\n") > 3 for path in found if path.parents[2] not in known
    ):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    folder, record = checkout.last()
    assert record.outcome.status is RunStatus.PREEMPTED
    done = checkout.reprise("train", "--resume", record.run, "--devices", "1", "--no-publish")
    assert done.returncode == 0, done.stderr
    second = folder.parent / "2"
    assert json.loads((second / "record.json").read_bytes())["outcome"]["weights"] == whole[0]
    assert tuple((second / name).read_bytes() for name in FILES) == whole[1:]


def test_a_killed_rank_is_named_and_the_run_can_be_resumed(checkout: Checkout) -> None:
    dies = write(
        checkout,
        "dies.py",
        "        return self",
        "        import os, signal\n"
        "        if self.training and self.trainer.global_step == 3 and self.trainer.global_rank == 1:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self",
    )
    code, _, err = checkout.train(*ARGUMENTS, *dies, "--devices", "2")
    assert code == RankError.code, err
    assert "rank 1 of 2 was ended by SIGKILL" in err
    _, record = checkout.last()
    assert record.outcome.status is RunStatus.FAILED


@pytest.mark.long
def test_a_rank_with_other_weights_is_found(checkout: Checkout) -> None:
    drifts = write(
        checkout,
        "drifts.py",
        "        return self",
        "        if self.training and self.trainer.global_step == 2 and self.trainer.global_rank == 3:\n"
        "            self.layers[0].weight.data[0] += 1e-7\n"
        "        return self",
    )
    code, _, err = checkout.train(*ARGUMENTS, *drifts, "--devices", "4")
    assert code == RankError.code, err
    assert (
        "rank 3 of 4 has other weights than the others, between step 0 and step 3; the first is layers.0.weight" in err
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "        self.breaks = breaks",
            "        self.cat = __import__('torchmetrics').CatMetric(); self.breaks = breaks",
            "training_step updates the metric cat",
        ),
        ("nn.ReLU()", "nn.SyncBatchNorm(4)", "is a SyncBatchNorm"),
        (
            "        self.breaks = breaks",
            "        self.register_buffer('seen', torch.zeros(1)); self.breaks = breaks",
            "changes its buffer seen in a step",
        ),
    ],
)
def test_values_that_depend_on_the_shards_are_rejected_by_name(
    checkout: Checkout, old: str, new: str, message: str
) -> None:
    option = write(checkout, "rejected.py", old, new)
    code = "import torch\n" + (checkout.root / "rejected.py").read_text().lstrip()
    counting = (
        "        if hasattr(self, 'seen') and self.training: self.seen.add_(1)\n"
        "        if hasattr(self, 'cat') and self.training: self.cat.update(images.mean())\n"
        "        return self"
    )
    (checkout.root / "rejected.py").write_text(code.replace("        return self", counting))
    number, _, err = checkout.train(*ARGUMENTS, *option, "--shards", "2")
    assert number == ExperimentError.code, err
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shards", "3"), "setting shards is 3; expected a power of two"),
        (("--shards", "2", "--devices", "4"), "setting shards is 2, which 4 devices cannot share equally"),
        (("--devices", "3"), "setting devices is 3; gradients are summed over a power of two of shards"),
        (("--shards", "16"), "setting batch_size is 8; 16 shards cannot share it equally"),
    ],
)
def test_shards_that_do_not_fit_are_rejected_before_the_run(
    checkout: Checkout, words: tuple[str, ...], message: str
) -> None:
    before = set((checkout.root / "runs").iterdir())
    code, _, err = checkout.train(*ARGUMENTS, *words)
    assert (code, message in err) == (41, True), err
    assert set((checkout.root / "runs").iterdir()) == before


def test_two_machines_have_the_bits_of_one(checkout: Checkout) -> None:
    """Two processes meet at an address, as on two machines; only the first writes a record."""
    one = results(checkout, "--shards", "4")
    before = {*(checkout.root / "runs").iterdir()}
    machines = start_machines(checkout, *ARGUMENTS, "--devices", "4")
    outputs = [machine.communicate(timeout=400)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    folder, record = checkout.last()
    assert {*(checkout.root / "runs").iterdir()} - before == {folder.parents[1]}
    assert [node.devices for node in record.circumstances.nodes] == [2]
    found = (record.outcome.weights, *((folder / name).read_bytes() for name in FILES))
    assert found == one


def start_machines(checkout: Checkout, *words: str, runs: Path | None = None) -> list[subprocess.Popen[str]]:
    """Start two processes that meet at an address, as on two machines, the second with another folder of runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    place = {"REPRISE_NODES": "2", "REPRISE_MAIN_ADDRESS": address}
    second = {"REPRISE_RUNS": str(runs)} if runs else {}
    return [
        checkout.start(*words, **place, REPRISE_NODE="0"),
        checkout.start(*words, **place, REPRISE_NODE="1", **second),
    ]


def test_two_machines_begin_with_the_weights_of_a_run_that_one_of_them_has(checkout: Checkout, tmp_path: Path) -> None:
    results(checkout)
    words = ("--init-from", checkout.last()[1].run)
    one = results(checkout, *words, "--shards", "2")
    machines = start_machines(checkout, *ARGUMENTS, *words, "--devices", "2", runs=tmp_path)
    errors = [machine.communicate(timeout=400)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], errors
    folder, record = checkout.last()
    found = (record.outcome.weights, *((folder / name).read_bytes() for name in FILES))
    assert found == one
    assert list(tmp_path.iterdir()) == []


def test_two_machines_stopped_and_started_again_with_the_same_words_have_the_bits_of_one(checkout: Checkout) -> None:
    slow = write(checkout, "slow.py", "return self", "import time; time.sleep(0.05); return self")
    one = results(checkout, *slow, "--shards", "2")
    run = new_run_id()
    words = (*ARGUMENTS, *slow, "--devices", "2", "--resume-or-begin", run)
    machines = start_machines(checkout, *words)
    trace = checkout.root / f"runs/{run}/attempts/1/trace.jsonl"
    while not trace.exists() or trace.read_bytes().count(b"\n") < 4:
        assert [machine.poll() for machine in machines] == [None, None]
    machines[1].send_signal(signal.SIGTERM)  # both stop after the same step
    errors = [machine.communicate(timeout=60)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [PreemptedError.code, StoppedError.code], errors
    again = start_machines(checkout, *words)
    errors = [machine.communicate(timeout=400)[1] for machine in again]
    assert [machine.returncode for machine in again] == [0, 0], errors
    second = trace.parents[1] / "2"
    record = json.loads((second / "record.json").read_bytes())
    found = (record["outcome"]["weights"], *((second / name).read_bytes() for name in FILES))
    assert found == one
    assert [node["devices"] for node in record["circumstances"]["nodes"]] == [1]
    done = checkout.reprise("train", *words)
    assert (done.returncode, done.stderr) == (0, f"run {run} is completed: nothing is left to do\n")


@pytest.mark.long
def test_the_output_of_a_failed_rank_is_printed_on_its_machine(checkout: Checkout, tmp_path: Path) -> None:
    fails = write(
        checkout,
        "fails.py",
        "        return self",
        "        if self.training and self.trainer.global_step == 2 and self.trainer.global_rank == 3:\n"
        "            raise ValueError('no such pixel')\n"
        "        return self",
    )
    machines = start_machines(checkout, *ARGUMENTS, *fails, "--devices", "4", runs=tmp_path)
    errors = [machine.communicate(timeout=400)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [RankError.code, RankError.code], errors
    assert "the output of rank 3:" in errors[1]
    assert "fails.py" in errors[1]
    assert "the experiment raised ValueError: no such pixel" in errors[1]


@pytest.mark.long
def test_a_machine_that_does_not_answer_is_named_and_the_run_can_be_resumed(checkout: Checkout) -> None:
    """The connections of the stopped process stay open, as after a network failure."""
    slow = write(checkout, "slow.py", "return self", "import time; time.sleep(0.05); return self")
    run = new_run_id()
    words = (*ARGUMENTS, *slow, "--devices", "2", "--max-epochs", "1000", "--resume-or-begin", run)
    machines = start_machines(checkout, *words)
    trace = checkout.root / f"runs/{run}/attempts/1/trace.jsonl"
    while not trace.exists() or trace.read_bytes().count(b"\n") < 4:
        assert [machine.poll() for machine in machines] == [None, None]
    machines[1].send_signal(signal.SIGSTOP)
    _, err = machines[0].communicate(timeout=200)
    machines[1].kill()
    machines[1].communicate()
    assert machines[0].returncode == RankError.code, err
    assert re.search(r"node 1 of 2 has not answered for 6\d s", err)
    record = json.loads((trace.parent / "record.json").read_bytes())
    assert record["outcome"]["status"] == "failed"
    process = checkout.start(*words)
    while not (second := checkout.root / f"runs/{run}/attempts/2/trace.jsonl").exists() or not second.stat().st_size:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == PreemptedError.code, err


def test_a_machine_with_other_files_does_not_take_part(checkout: Checkout, tmp_path: Path) -> None:
    other = replace(checkout, root=tmp_path / "checkout")
    shutil.copytree(
        checkout.root, other.root, ignore=lambda folder, _: {"runs"} if folder == str(checkout.root) else set()
    )
    (other.root / "runs").mkdir()
    (other.root / "dots.py").write_text((other.root / "dots.py").read_text() + "# edited\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    machines = [
        each.start(
            *ARGUMENTS, "--devices", "2", REPRISE_NODES="2", REPRISE_NODE=str(node), REPRISE_MAIN_ADDRESS=address
        )
        for node, each in enumerate((checkout, other))
    ]
    errors = [machine.communicate(timeout=400)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [RankError.code, RankError.code], errors
    assert "node 1 (" in errors[0]
    assert "does not take part: source is sha256:" in errors[0]
    assert "this machine does not take part in run" in errors[1]
    assert list((other.root / "runs").iterdir()) == []
