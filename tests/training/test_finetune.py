"""Runs that begin with the weights of another run or of a dataset, by the real command."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout
    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]
WORDS = ("--no-publish", "--max-epochs", "1")
RESULTS = ("tensors.json", "weights.safetensors", "metrics.jsonl", "trace.jsonl")


def trained(checkout: Checkout, *words: str) -> tuple[Path, Record]:
    code, _, err = checkout.train(*words)
    assert code == 0, err
    return checkout.last()


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> Record:
    return trained(checkout, *WORDS)[1]


@pytest.fixture(scope="module")
def chain(checkout: Checkout, first: Record) -> tuple[Record, Record, Record]:
    """Three runs; the second and the third begin with the weights of the run before."""
    _, second = trained(checkout, *WORDS, "--init-from", first.run[:-1], "--seed", "1")
    _, third = trained(checkout, *WORDS, "--init-from", "latest", "--seed", "2")
    return first, second, third


def test_a_child_records_its_parent_by_digest(chain: tuple[Record, Record, Record]) -> None:
    first, second, third = chain
    (weights,) = [file for file in first.outcome.files if file.path == "weights.safetensors"]
    assert second.ingredients.initial_weights == weights.sha256
    assert second.circumstances.parent is not None
    assert (second.circumstances.parent.run, second.circumstances.parent.identity) == (first.run, first.identity)
    assert second.circumstances.execution["init_from"] == first.run
    assert third.circumstances.parent is not None
    assert third.circumstances.parent.run == second.run
    assert second.outcome.loaded_weights is not None
    assert second.outcome.loaded_weights.loaded == 4
    assert first.ingredients.initial_weights is None
    assert "init_from" not in first.circumstances.execution
    assert not {"init_map", "init_allow"} & first.ingredients.settings.keys()


def test_the_lineage_is_shown(checkout: Checkout, chain: tuple[Record, Record, Record]) -> None:
    first, second, third = chain
    page = checkout.reprise("runs", "show", third.run)
    lines = page.stdout.partition("lineage\n")[2].splitlines()[:3]
    assert [line.split("  ")[-2].strip("└─ ") for line in lines] == [first.run, second.run, third.run], page.stderr
    document = json.loads(checkout.reprise("runs", "show", third.run, "--json").stdout)
    assert [row["run"] for row in document["lineage"]] == [first.run, second.run]
    assert "lineage" not in json.loads(checkout.reprise("runs", "show", first.run, "--json").stdout)


def test_a_chain_of_three_runs_is_reproduced_to_identical_bits(
    checkout: Checkout, chain: tuple[Record, Record, Record]
) -> None:
    done = checkout.reprise("reproduce", chain[2].run, "--chain", "--no-container", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["chain"]
    assert [each["retest"]["verdict"] for each in results] == ["identical"] * 3
    assert [each["retest"]["original"]["run"] for each in results] == [each.run for each in chain]
    ends = [each["retest"]["retest"]["run"] for each in results]
    parents = [
        json.loads((checkout.root / "runs" / run / "attempts/1/record.json").read_bytes())["circumstances"].get(
            "parent"
        )
        for run in ends
    ]
    assert [parent and parent["run"] for parent in parents] == [None, *ends[:2]]


def test_a_child_is_reproduced_and_published_without_its_parent(
    checkout: Checkout, chain: tuple[Record, Record, Record], tmp_path: Path
) -> None:
    first, second, _ = chain
    assert checkout.reprise("runs", "publish", second.run).returncode == 0
    there = {"REPRISE_RUNS": str(tmp_path / "runs")}
    pulled = checkout.reprise("runs", "pull", second.run, **there)
    assert f"reprise runs pull {first.run}" in pulled.stdout, pulled.stderr
    trusted = ("--no-container", "--trust", "--grant", "machine")
    done = checkout.reprise("reproduce", second.run, *trusted, **there)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical:")
    missing = checkout.reprise("reproduce", second.run, "--chain", *trusted, **there)
    assert missing.returncode != 0
    assert f"began with the weights of run {first.run}, which is not found" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_killed_child_resumes_to_identical_bits(checkout: Checkout, first: Record) -> None:
    words = ("--no-publish", "--max-epochs", "6", "--checkpoint-every", "5", "--init-from", first.run, "--seed", "3")
    whole, _ = trained(checkout, *words)
    known = set((checkout.root / "runs").glob("[0-9]*"))
    process = checkout.start(*words)
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (run,) = set((checkout.root / "runs").glob("[0-9]*")) - known
    hidden = checkout.root / "runs" / first.run
    hidden.rename(checkout.root / "elsewhere")
    try:
        other = checkout.reprise("train", "--resume", run.name, "--init-map", "a=b")
        assert (other.returncode, "already has its initial weights" in other.stderr) == (88, True), other.stderr
        done = checkout.reprise("train", "--resume", run.name)
    finally:
        (checkout.root / "elsewhere").rename(hidden)
    assert done.returncode == 0, done.stderr
    for name in (*RESULTS, "initial.safetensors"):
        assert (run / "attempts/2" / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--init-map", "layer=net"), "setting init_map renames 'layer', but no tensor of run"),
        (("--init-map", "layers.0=layers.9"), "do not fit the net: missing: layers.0.weight"),
        (("--init-allow", "mising"), "each value is 'missing', 'unexpected'"),
        (("--classes", "3"), "reshaped: layers.4.weight (float32[2,16] in the file, float32[3,16] in the net)"),
    ],
)
def test_initial_weights_that_do_not_match_the_net_are_rejected_and_no_run_is_kept(
    checkout: Checkout, first: Record, words: tuple[str, ...], said: str
) -> None:
    known = set((checkout.root / "runs").iterdir())
    code, _, err = checkout.train(*WORDS, "--init-from", first.run, *words)
    assert code == 41, err
    assert said in err
    assert "Traceback" not in err
    assert set((checkout.root / "runs").iterdir()) == known


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("--init-from", "20200101"), "which is neither a run nor a dataset here", "reprise runs ls"),
        (
            ("--init-from", "net.safetensors"),
            "is the file 'net.safetensors'",
            "reprise data publish net net.safetensors",
        ),
        (("--init-from", "dots"), "holds samples, not weights", "name a run"),
        (("--init-map", "a=b"), "but no weights are loaded", "add --init-from RUN"),
        (("--init-form", "x"), "unknown setting --init-form", "did you mean --init-from"),
    ],
)
def test_words_that_name_no_weights_are_rejected_with_a_hint(
    checkout: Checkout, words: tuple[str, ...], said: str, hint: str
) -> None:
    known = set((checkout.root / "runs").iterdir())
    code, _, err = checkout.train(*WORDS, *words)
    assert (code != 0, said in err, hint in err) == (True, True, True), err
    assert "Traceback" not in err
    assert set((checkout.root / "runs").iterdir()) == known


def test_a_script_takes_no_initial_weights(checkout: Checkout) -> None:
    code, _, err = checkout.train("--script", "dots.py", "--init-from", "latest")
    assert (code, "a script loads its weights itself" in err) == (41, True), err


def test_a_run_begins_with_a_dataset_of_weights(checkout: Checkout, first: Record) -> None:
    import torch
    from safetensors.torch import load_file

    weights = checkout.root / "runs" / first.run / "attempts/1/weights.safetensors"
    shutil.copy(weights, checkout.root / "net.safetensors")
    published = checkout.reprise("data", "publish", "net", "net.safetensors", "--license", "CC0", "--source", "a test")
    assert published.returncode == 0, published.stderr
    _, by_dataset = trained(checkout, *WORDS, "--init-from", "net@1", "--seed", "1")
    _, by_run = trained(checkout, *WORDS, "--init-from", first.run, "--seed", "1")
    assert by_dataset.outcome.weights == by_run.outcome.weights
    assert by_dataset.ingredients.datasets["net"].roles == ["weights"]
    assert by_dataset.ingredients.initial_weights is None
    done = checkout.reprise("reproduce", by_dataset.run, "--no-container")
    assert done.returncode == 0, done.stderr

    torch.save({"epoch": 1, "state_dict": load_file(weights)}, checkout.root / "net.pt")
    again = checkout.reprise("data", "publish", "net", "net.pt")
    assert again.returncode == 0, again.stderr
    text = (checkout.root / "datasets/net.toml").read_text()
    assert 'source = "a test; converted from net.pt, of its entry state_dict (sha256:' in text
    assert by_dataset.ingredients.datasets["net"].content in text, "equal tensors are equal bytes"
