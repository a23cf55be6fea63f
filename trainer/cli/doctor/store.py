"""`reprise doctor store`: what a store may be trusted with, found out by trying. Anywhere."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from trainer.base.errors import StoreError, UsageError
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.places import store_address, store_at
from trainer.stores.probe import Probe, Probed, is_trusted
from trainer.stores.unchecked import unchecked

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.stores.contract import Store


def main(argv: list[str]) -> int:
    """Probe, print a table, remove what was written; 0 only where everything that correctness needs holds."""
    parser = Arguments(
        "reprise doctor store",
        "Test what a store supports, with objects below probes/. Writes about 34 MB and removes them if the credentials allow it.",
    )
    parser.add_argument(
        "address", metavar="ADDRESS", nargs="?", help="store: s3://BUCKET/PREFIX or a path (default: REPRISE_STORE)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
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
            print(f"{counted(left, 'object')} left below {probe.place} in {store.label}: {why}", file=sys.stderr)
    return _told(words, store, probed, left=left)


def _show(each: Probed) -> None:
    mark = "ok" if each.holds else "FAULT" if each.needed else "note"
    print(f"{mark:5} {each.about:9} {each.found}\n{'':16}-> {each.therefore}", flush=True)


def _told(words: Namespace, store: Store, probed: list[Probed], *, left: int) -> int:
    trusted = is_trusted(probed)
    if words.json:
        print(
            json.dumps(
                {"store": store.address, "trusted": trusted, "left": left, "probes": [asdict(each) for each in probed]}
            )
        )
    else:
        faults = ", ".join(each.about for each in probed if each.needed and not each.holds)
        print(
            f"{store.label}: {'holds everything that Reprise needs' if trusted else f'cannot be trusted with datasets and runs: {faults}'}"
        )
    return 0 if trusted else StoreError.code
