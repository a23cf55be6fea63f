"""Every command that can run code from outside the user's checkout first checks trust: docs/security.md, Code from other users."""

from __future__ import annotations

import ast
from typing import Final

import pytest

from tests.test_architecture import MODULES
from trainer.cli import COMMANDS, HIDDEN

GATED: Final = {"train", "reproduce", "why", "sweep", "predict", "package", "retest"}
"""Commands that run a recorded source, after a check by `trainer.cli.trust`."""
STARTED_BY_THESE: Final = {"_process", "_points"}
"""Commands that gated commands start."""
UNGATED: Final = {
    "new", "runs", "report", "compare", "noise", "certify", "verify", "check", "bench", "baseline", "data", "add", "remove", "image",
    "packages", "serve", "setup", "doctor", "submit", "logs", "cancel",
    "doctor store", "_baseline", "_bench", "_check", "_fetch", "_foresee", "_inspect", "_observe", "_self_test", "_table",
}  # fmt: skip
"""Commands that run only the checkout's own code, start `train`, or run no code of experiments."""
CALLERS: Final = {
    ("trainer.cli.runner", "choose_runner"): {"trainer.cli.reproduce", "trainer.cli.why"},
    ("trainer.cli.runner.container", "ContainerRunner"): {
        "trainer.cli.runner",
        "trainer.cli.resume",
        "trainer.cli.doctor",
    },
    ("trainer.cli.runner", "ProcessRunner"): set(),
    ("trainer.comparison.reproduce", "prepare_rerun"): {
        "trainer.cli.reproduce",
        "trainer.cli.why",
        "trainer.cli.resume",
    },
    ("trainer.comparison.reproduce", "run_confined"): {"trainer.cli.runner.container"},
    ("trainer.source.copy", "lay_out"): {"trainer.comparison.reproduce"},
    ("trainer.source.capture", "unpack"): {"trainer.runs.resume", "trainer.sweeps.folder", "trainer.source.copy"},
    ("trainer.runs.resume", "require_source"): {
        "trainer.cli.resume",
        "trainer.cli.trust",
        "trainer.training.saved_net",
    },
    ("trainer.training.saved_net", "load_net"): {"trainer.notebook.run"},
    ("trainer.training.saved_net", "load_saved"): {"trainer.models.evaluation", "trainer.models.prediction"},
    ("trainer.models.prediction", "load_model"): {"trainer.cli.predict", "trainer.notebook.run"},
    ("trainer.models.evaluation", "saved_test"): {"trainer.models.build", "trainer.models.retest"},
    ("trainer.models.build", "build_package"): {"trainer.cli.package"},
    ("trainer.models.retest", "retest"): {"trainer.cli.retest"},
    ("trainer.cli.resume", "prepare"): {"trainer.cli.train"},
    ("trainer.cli.containers", "resume_in_container"): {"trainer.cli.train"},
    ("trainer.cli.resume", "resume_isolated"): {"trainer.cli.train"},
    ("trainer.cli.sweep.scheduler", "Scheduler"): {"trainer.cli.sweep"},
    ("trainer.cli.sweep.launchers", "launcher_for"): {"trainer.cli.sweep", "trainer.cli.sweep.create"},
}
"""The modules that may unpack or start a recorded source. A new module needs the gate and an entry here; `doctor` only reads."""
GATES: Final = {
    "trainer.cli.reproduce": ("require_trust(", "prepare_rerun("),
    "trainer.cli.why": ("require_trust(", "prepare_rerun("),
    "trainer.cli.train": ("admit(folder, options)", "prepare(options, admission)"),
    "trainer.notebook.run": ("self._require_own(trust=trust)", "load_net(self.record"),
    "trainer.cli.predict": ("require_trust(", "load_model("),
    "trainer.cli.package": ("require_trust(", "build_package("),
    "trainer.cli.retest": ("require_trust(", "retest(run.record"),
    "trainer.cli.sweep": ("require_own_sweep(", "_train("),
}


def importers(module: str, name: str) -> set[str]:
    """Return the modules that import `name` from `module`, at their top level or in functions."""
    found = set()
    for each, path in MODULES.items():
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        if any(node.module == module and name in {alias.name for alias in node.names} for node in imports):
            found.add(each)
    return found


def test_every_command_is_listed_as_gated_or_exempt() -> None:
    assert {*COMMANDS, *HIDDEN} == GATED | STARTED_BY_THESE | UNGATED


@pytest.mark.parametrize(("module", "name"), CALLERS)
def test_recorded_sources_are_run_behind_the_gate_only(module: str, name: str) -> None:
    assert importers(module, name) == CALLERS[module, name]


@pytest.mark.parametrize("module", GATES)
def test_the_gate_comes_first(module: str) -> None:
    gate, rest = GATES[module]
    text = MODULES[module].read_text()
    assert text.index(gate) < text.index(rest)


def test_processes_of_another_source_are_started_in_listed_modules_only() -> None:
    """The test finds modules that replace their process (`os.exec`) or set PYTHONPATH."""
    found = {
        module
        for module, path in MODULES.items()
        if "os.exec" in path.read_text() or '"PYTHONPATH"' in path.read_text()
    }
    assert (
        found
        == {
            "trainer.cli.data.imports",  # the same command of this checkout, in the environment for imports
            "trainer.cli.saved_weights",  # the same command of this checkout, with the variables of the run's determinism level
            "trainer.cli.train",
            "trainer.launch.process",
            "trainer.notebook.training",  # `train` of this checkout
            "trainer.training.scripts.process",  # in the training process, which passed the gate
        }
    )
