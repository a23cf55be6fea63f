"""What a run's end is told as: its result, its record, where it was published.

Knows the lines that a person reads and the document that a script does. Publishes, since what it tells is where the run is now.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.actions.publish_run import publish_run
from trainer.digest import canonical
from trainer.errors import RepriseError
from trainer.store import open_store

if TYPE_CHECKING:
    from trainer.cli.session import Session


def finish(session: Session, *, as_json: bool) -> int:
    """Publish a run that went well, and print its result."""
    record = session.opened.record
    if unread := record.outcome.unread:
        print(f"bound, but never read: {', '.join(unread)}", file=sys.stderr)
    where = published(session)
    if as_json:
        told = {"run": record.run, "status": record.outcome.status, "metrics": record.outcome.metrics}
        print(canonical({**told, "record": session.shown, "published": where}).decode())
        return 0
    tested = {name: value for name, value in record.outcome.metrics.items() if name.startswith("test_")}
    print(f"run        {record.run} ({record.outcome.status})")
    for name, value in sorted(tested.items()):
        print(f"{name.replace('_', ' '):10} {value:.4f}")
    print(f"record     {session.shown}")
    print(f"published  {where}")
    return 0


def published(session: Session) -> str:
    """Publish the run, if it shall be; say where it is. What keeps it from the store keeps it here, and is told."""
    address = os.environ.get("REPRISE_STORE")
    if not (session.publishes and address):
        return local(session)
    session.stop.listen()
    try:
        publish_run(Path(session.frozen.folder), open_store(address))
    except RepriseError as fault:
        return f"no: {fault.message}\n{'':11}{local(session)}"
    finally:
        session.stop.ignore()
    return address


def local(session: Session) -> str:
    """Say how a run that is only here is published."""
    return f"local only; publish it with: scripts/reprise runs publish {session.frozen.run}"
