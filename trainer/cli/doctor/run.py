"""`reprise doctor RUN`: checks whether a run can be reproduced here, without running, fetching or starting anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from trainer.base.errors import IrreproducibleError
from trainer.cli.configuration import adopt_dotenv
from trainer.cli.find_run import find_run
from trainer.cli.output import one_line, print_result
from trainer.cli.runner.on_host import OnHost
from trainer.cli.spelling import spelled
from trainer.comparison.examine_run import examine_run
from trainer.environments.doctor import Finding, State, exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARKS = {State.WELL: "ok", State.NOTE: "note", State.FAULT: "FAULT"}


def doctor_run(word: str, *, as_json: bool) -> int:
    """Print what a rerun of the run needs and whether it is there; return 0 if nothing is missing."""
    adopt_dotenv()
    found = find_run(word)
    run = found.record.run
    findings = print_findings(examine_run(found.record, found.folder, machine=OnHost().machine()), quiet=as_json)
    faults = [finding for finding in findings if finding.state is State.FAULT]
    document = {"run": run, "reproducible": not faults, "findings": [asdict(each) for each in findings]}
    can = spelled(f"run {run} can be reproduced: reprise reproduce {run}")
    print_result(document, can if not faults else f"run {run} cannot be reproduced here", as_json=as_json)
    return IrreproducibleError.code if exit_code(findings) else 0


def print_findings(findings: Iterable[Finding], *, quiet: bool) -> list[Finding]:
    """Print each finding with its remedy when it arrives, unless `quiet`; return all findings."""
    printed = []
    for finding in findings:
        printed.append(finding)
        if not quiet:
            print("\n".join(lines(finding)), flush=True)
    return printed


def lines(finding: Finding) -> list[str]:
    """Return the lines of a finding and its remedy; its text may come from another user's record."""
    line = f"{_MARKS[finding.state]:5} {finding.about:9} {one_line(finding.found)}"
    return [line, *([f"{'':16}-> {spelled(finding.remedy)}"] if finding.remedy else [])]
