"""`reprise doctor RUN`: whether a run can still be run again here, and what to do about each thing that is missing.

Knows words and output. Refuses to fetch an image, start a store, or run anything of the run.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from trainer.base.errors import IrreproducibleError
from trainer.cli.output import one_line
from trainer.cli.places import adopt_dotenv
from trainer.cli.reproduce.original import original
from trainer.cli.runner.on_host import OnHost
from trainer.cli.spelling import spelled
from trainer.comparison.examine_run import examine_run
from trainer.environments.doctor import Finding, State, exit_code

MARKS = {State.WELL: "ok", State.NOTE: "note", State.FAULT: "FAULT"}


def doctor_run(word: str, *, as_json: bool) -> int:
    """Look at everything that running the run again needs; exit with 0 where nothing is missing."""
    adopt_dotenv()
    found = original(word)
    findings = []
    for finding in examine_run(found.record, found.folder, machine=OnHost().machine()):
        findings.append(finding)
        if not as_json:
            print("\n".join(lines(finding)), flush=True)
    faults = [finding for finding in findings if finding.state is State.FAULT]
    if as_json:
        told = {"run": found.record.run, "reproducible": not faults, "findings": [asdict(each) for each in findings]}
        print(json.dumps(told))
    else:
        run = found.record.run
        print(
            spelled(f"run {run} can be run again: reprise reproduce {run}")
            if not faults
            else f"run {run} cannot be run again here"
        )
    return IrreproducibleError.code if exit_code(findings) else 0


def lines(finding: Finding) -> list[str]:
    """A finding, and what to do about it; its words may be a stranger's."""
    said = [f"{MARKS[finding.state]:5} {finding.about:9} {one_line(finding.found)}"]
    return said + ([f"{'':16}-> {spelled(finding.remedy)}"] if finding.remedy else [])
