"""Report the end of a run: its result, its record, where it was published.

The report is lines for a user or a document for a script. This module also publishes the run, since the report contains its location.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from trainer.base.digest import canonical
from trainer.base.errors import RepriseError
from trainer.cli.configuration import store_at
from trainer.cli.output import escaping
from trainer.cli.run_page import columns
from trainer.cli.spelling import spelled
from trainer.environments.setup import LOCAL_STORE
from trainer.runs.metric_text import metric_text
from trainer.runs.publish import publish_run
from trainer.runs.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from trainer.cli.process.session import Session
    from trainer.runs.record import Record


_STOPPED: Final = (Status.PREEMPTED, Status.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The location of a run: a store's address, or only this machine, with the reason."""

    address: str | None = None
    label: str | None = None
    """The address and the endpoint, for display."""
    fault: str | None = None


def finish(session: Session, *, as_json: bool, out: TextIO | None = None) -> int:
    """Publish a successful run, and print its result to `out`."""
    record = session.opened.record
    if unread := record.outcome.unread:
        print(f"settings that nothing read: {', '.join(unread)}", file=escaping(sys.stderr))
    where = published(session)
    if as_json:
        told = {"run": record.run, "status": record.outcome.status, "metrics": record.outcome.metrics}
        undefined = {"undefined": record.outcome.undefined} if record.outcome.undefined else {}
        place = {"record": session.shown, "published": where.address, "local_because": where.fault}
        print(canonical({**told, **undefined, **place}).decode(), file=out, flush=True)
        return 0
    tested = {name: value for name, value in record.outcome.metrics.items() if name.startswith("test_")}
    print("\n".join(block(session, where, metrics=tested)), file=out, flush=True)
    return 0


def block(
    session: Session, where: Where, *, metrics: Mapping[str, JsonValue], more: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """Return the lines of a report: the run, its metrics, its record, its location, and the rows of `more`."""
    return list(columns([*_rows(session.opened.record, session, where, metrics), *more]))


def _rows(
    record: Record, session: Session, where: Where, metrics: Mapping[str, JsonValue]
) -> Iterator[tuple[str, str]]:
    yield "run", f"{record.run} ({record.outcome.status})"
    for name, value in sorted(metrics.items()):
        yield name.replace("_", " "), _value(record, name, value)
    for name, why in sorted(record.outcome.undefined.items()):
        if metrics and name not in metrics:
            yield "undefined", f"{name.replace('_', ' ')}: {why}"
    yield "record", session.shown
    yield "published", f"local only: {as_on_host(where.fault)}" if where.fault else str(where.label)
    if where.fault:
        yield "", spelled(f"reprise runs publish {record.run}{_elsewhere()}")
    if record.outcome.status in _STOPPED:
        yield "go on", spelled(f"reprise train --resume {record.run}")


def _elsewhere() -> str:
    """Return the option for the run's store, which may have been set for this command only; empty for the local store."""
    address = os.environ.get("REPRISE_STORE")
    return f" --store {shlex.quote(address)}" if address and address != LOCAL_STORE else ""


def _value(record: Record, name: str, value: JsonValue) -> str:
    why = record.outcome.undefined.get(name)
    if why is not None:
        return f"undefined ({why})"
    return metric_text(value) if isinstance(value, float) else str(value)


def published(session: Session) -> Where:
    """Publish the run if its settings request it. If publishing fails, the run stays on this machine and the reason is reported."""
    address = os.environ.get("REPRISE_STORE")
    if not session.publishes:
        return Where(fault="the setting publish is off")
    if not address:
        return Where(fault="no store is configured")
    session.stop.listen()
    try:
        store = store_at(address)
        publish_run(Path(session.frozen.folder), store)
    except RepriseError as fault:
        return Where(fault=fault.message)
    finally:
        session.stop.ignore()
    return Where(address=address, label=store.label)


def as_on_host(text: str) -> str:
    """Replace the store's endpoint in a text by the endpoint on the host: in containers the local store has another name."""
    inside, outside = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "REPRISE_STORE_ON_HOST"))
    return text.replace(inside, outside) if inside and outside else text
