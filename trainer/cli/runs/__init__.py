"""`reprise runs`: list, show, pull, publish, push and export runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.cli.arguments import Arguments
from trainer.cli.configuration import store_address
from trainer.cli.runs import export, ls, publish, pull, push, show
from trainer.runs.record import record_schema

if TYPE_CHECKING:
    from argparse import Namespace


def main(argv: list[str]) -> int:
    """Run a subcommand."""
    args = _parser().parse_args(argv)
    args.target = args.store
    args.store = args.store or store_address()
    code: int = args.verb(args)
    return code


def _parser() -> Arguments:
    parser = Arguments("reprise runs", "Manage runs on this machine and in the store.")
    verbs = parser.commands()
    commands = (
        ("ls", "list runs, latest first", ls.describe, ls.ls),
        (
            "show",
            "show a run's result, ingredients, image, drift, and settings with their origins and the code that read them",
            show.describe,
            show.show,
        ),
        ("pull", "download and verify runs from the store", pull.describe, pull.pull),
        ("publish", "upload runs to the store", publish.describe, publish.publish),
        ("push", "copy runs to another store", push.describe, push.push),
        ("export", "write a run's record as SLSA provenance, RO-Crate or CycloneDX", export.describe, export.export),
    )
    for name, purpose, describe, verb in commands:
        command = verbs.add_parser(name, help=purpose)
        describe(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.set_defaults(verb=verb)
    schema = verbs.add_parser(
        "schema", help="print the JSON Schema of records; `show --json` may add `lineage` and `scheduler` to a record"
    )
    schema.set_defaults(verb=_schema, store=None)
    return parser


def _schema(_: Namespace) -> int:
    print(record_schema(), end="")
    return 0
