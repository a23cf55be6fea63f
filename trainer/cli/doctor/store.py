"""`reprise doctor store`: tests with real objects that a store provides what Reprise needs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from trainer.base.errors import StoreError, UsageError
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import store_address, store_at
from trainer.cli.output import print_result
from trainer.stores.probe import Probe, Probed, is_trusted
from trainer.stores.unchecked import unchecked

if TYPE_CHECKING:
    from trainer.stores.contract import Store


def main(argv: list[str]) -> int:
    """Probe the store, print the results, remove the objects; return 0 if everything that correctness needs holds."""
    parser = Arguments(
        "reprise doctor store",
        "Test with real objects below probes/ that a store provides what Reprise needs. "
        "Writes about 34 MB and removes them if the credentials allow it.",
    )
    parser.add_argument(
        "address", metavar="ADDRESS", nargs="?", help="s3://BUCKET/PREFIX or a path (default: REPRISE_STORE)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    words = parser.parse_args(argv)
    address = words.address or store_address()
    if not address:
        raise UsageError(
            "no store is named", hint="give its ADDRESS, or set REPRISE_STORE (scripts/setup writes it into .env)"
        )
    store = store_at(address)
    probe = Probe(store=store, again=store_at(address), raw=unchecked(store))
    probed: list[Probed] = []
    try:
        for each in probe.all():
            probed.append(each)
            if not words.json:
                _show(each)
    finally:
        left, why = probe.tidy()
        if left:
            print(
                f"{counted(left, 'object')} could not be removed below {probe.place} in {store.label}: {why}",
                file=sys.stderr,
            )
    return _print_verdict(store, probed, left=left, as_json=words.json)


def _show(each: Probed) -> None:
    mark = "ok" if each.holds else "FAULT" if each.needed else "note"
    print(f"{mark:5} {each.about:9} {each.found}\n{'':16}-> {each.therefore}", flush=True)


def _print_verdict(store: Store, probed: list[Probed], *, left: int, as_json: bool) -> int:
    trusted = is_trusted(probed)
    probes = [asdict(each) for each in probed]
    faults = ", ".join(each.about for each in probed if each.needed and not each.holds)
    line = "provides everything that Reprise needs" if trusted else f"is not safe for datasets and runs: {faults}"
    document = {"store": store.address, "trusted": trusted, "left": left, "probes": probes}
    print_result(document, f"{store.label} {line}", as_json=as_json)
    return 0 if trusted else StoreError.code
