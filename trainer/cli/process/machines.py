"""Rendezvous of the machines of a run: node 0 names the run, the others report their inputs, which must be equal.

Node 0 keeps the record. A message is one value of a key-value store, which node 0 serves at the run's port.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from trainer.base.document import Document, parse_json
from trainer.base.errors import RankError
from trainer.runs.record import Ingredients, Node
from trainer.runs.run_id import RUN_ID
from trainer.settings.determinism import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.cli.nodes import NodePlace
    from trainer.runs.identify import Identified

_ARRIVAL: Final = 600.0
"""Seconds within which every machine must arrive."""
_PAUSE: Final = 0.05
_LARGEST: Final = 1 << 24


class Announcement(Document):
    """Node 0's message to the others."""

    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    ingredients: Ingredients
    devices: int
    """The devices of all machines."""
    cpu: str


class Arrival(Document):
    """Another machine's answer."""

    node: Node
    differs: str | None = None
    """What is not as on node 0; the machine does not take part."""


@contextmanager
def serving(place: NodePlace | None) -> Iterator[Any]:
    """Serve the key-value store of the run on node 0 for the block."""
    if place is None or place.node > 0:
        yield None
        return
    from trainer.training.shards.ranks import serve_meeting

    yield serve_meeting(place.port)


def announce(store: Any, place: NodePlace, message: Announcement, *, check: Callable[[], None]) -> list[Node]:
    """Publish the run on node 0, and return the other machines once all have arrived. Raise `RankError`."""
    store.set("run", message.model_dump_json())
    end, nodes = monotonic() + _ARRIVAL, []
    for number in range(1, place.nodes):
        key = f"machine/{number}"
        while not store.check([key]):
            check()
            if monotonic() > end:
                why = f"node {number} of {place.nodes} did not arrive within {_ARRIVAL:.0f} s"
                raise RankError(why, hint="the same command must start on every machine, with its own REPRISE_NODE")
            sleep(_PAUSE)
        arrival = parse_json(store.get(key), Arrival, where=f"the answer of node {number}", most=_LARGEST)
        if arrival.differs is not None:
            why = f"node {number} ({arrival.node.host.name}) does not take part: {arrival.differs}"
            raise RankError(why, hint="start the same command, from the same files, in the same image on every machine")
        nodes.append(arrival.node)
    return nodes


def join(place: NodePlace, *, check: Callable[[], None]) -> Any:
    """Return the key-value store that node 0 serves. Raise `RankError` without a connection."""
    from trainer.training.shards.ranks import join_meeting

    return join_meeting(place.host, place.port, seconds=_ARRIVAL, check=check)


def arrive(store: Any, place: NodePlace, mine: Identified, *, devices: int, check: Callable[[], None]) -> Announcement:
    """Answer node 0 from another machine, and return its message. Raise `RankError` if the inputs differ."""
    while not store.check(["run"]):
        check()
        sleep(_PAUSE)
    found = parse_json(store.get("run"), Announcement, where="the message of node 0", most=_LARGEST)
    circumstances = mine.circumstances
    node = Node(host=circumstances.host, image=circumstances.image, drift=circumstances.drift, devices=devices)
    differs = difference(found, mine)
    store.set(f"machine/{place.node}", Arrival(node=node, differs=differs).model_dump_json())
    if differs is not None:
        raise RankError(
            f"this machine does not take part in run {found.run}: {differs}", hint="node 0 decides: change this one"
        )
    return found


def difference(announced: Announcement, mine: Identified) -> str | None:
    """Return the first ingredient that is not as on node 0; `None` if all are."""
    one, other = announced.ingredients.model_dump(mode="json"), mine.ingredients.model_dump(mode="json")
    if mine.circumstances.execution.get("init_from") is not None:
        one.pop("initial_weights", None)  # of a run: node 0 sends them, and they are verified by this digest
    for name in one:
        if one[name] == other[name]:
            continue
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            key = min(each for each in one[name] | other[name] if one[name].get(each) != other[name].get(each))
            return f"{name} {key} is {other[name].get(key)} here, and {one[name].get(key)} on node 0"
        return f"{name} is {other[name]} here, and {one[name]} on node 0"
    if (devices := mine.circumstances.execution.get("devices")) != announced.devices:
        return f"setting devices is {devices} here, and {announced.devices} on node 0"
    is_bound = announced.ingredients.determinism.level == Level.MACHINE.value
    cpu = mine.circumstances.host.cpu
    if is_bound and announced.ingredients.device.accelerator == "cpu" and cpu != announced.cpu:
        return f"its processor is {cpu}, and {announced.cpu} on node 0; determinism machine needs the same (or use portable)"
    return None
