"""`reprise runs pull`: download runs from the store and verify them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.base.suggestions import counted
from trainer.cli.configuration import CHECKOUT, STORE_HELP, configured_store, give_to_container_user, runs_folder
from trainer.cli.find_run import STORED_RUN_HELP, stored_run_id
from trainer.cli.output import print_json
from trainer.cli.progress import transfer_progress
from trainer.runs.pull import LARGEST, pull_run
from trainer.runs.run import attempts, recorded_attempts

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Verb


def describe(pull: Verb) -> None:
    """Declare the options of `pull`."""
    pull.add_argument("run", metavar="RUN", nargs="+", help=STORED_RUN_HELP)
    pull.add_argument(
        "--max-bytes",
        type=int,
        metavar="N",
        help=f"reject runs of more than N bytes (default: {LARGEST}, {LARGEST >> 30} GiB)",
    )
    pull.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)


def pull(args: Namespace) -> int:
    """Pull each run; a run whose files are all here is verified and left as it is."""
    store, runs = configured_store(args.store), runs_folder()
    largest = LARGEST if args.max_bytes is None else args.max_bytes
    results: list[dict[str, Any]] = []
    for word in args.run:
        run = stored_run_id(word, store)
        before = attempts(runs / run)
        records = pull_run(run, store, runs=runs, largest=largest, progress=transfer_progress("pulling"))
        results.append({"run": run, "attempts": [record.attempt for record in records], "folder": str(runs / run)})
        new = [record.attempt for record in records if record.attempt not in before]
        if new:
            give_to_container_user(runs / run, checkout=CHECKOUT)
        if not args.json:
            count = counted(len(new), "attempt")
            print(
                f"pulled {run}: {count}, in {runs / run}"
                if new
                else f"{run} is already in {runs / run}, with the published files"
            )
            if (parent := records[-1].circumstances.parent) and not recorded_attempts(runs / parent.run):
                print(
                    f"its initial weights, from run {parent.run}, are included; to pull that run: reprise runs pull {parent.run}"
                )
    if args.json:
        print_json(results, indent=1)
    return 0
