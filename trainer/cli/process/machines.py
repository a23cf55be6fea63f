"""Rendezvous of the machines of a run: node 0 announces the run and its inputs, and the inputs of the other machines must be equal.

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
"""Seconds within which every machine must connect."""
_PAUSE: Final = 0.05
_LARGEST: Final = 1 << 24


class Announcement(Document):
    """Node 0's message to the other machines."""

    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    ingredients: Ingredients
    devices: int
    """The total number of devices on all machines."""
    cpu: str


class Arrival(Document):
    """Another machine's reply."""

    node: Node
    differs: str | None = None
    """The first difference from node 0, because of which the machine does not take part; `None` without a difference."""


@contextmanager
def serving(place: NodePlace | None) -> Iterator[Any]:
    """Yield the key-value store of the run, which node 0 serves during the block; `None` on other machines and on a single machine."""
    if place is None or place.node > 0:
        yield None
        return
    from trainer.training.shards.ranks import serve_meeting

    yield serve_meeting(place.port)


def announce(store: Any, place: NodePlace, message: Announcement, *, check: Callable[[], None]) -> list[Node]:
    """Announce the run on node 0, and return the other machines after all have connected.

    Raise `RankError` if a machine does not connect within ten minutes, or has other inputs.
    """
    store.set("run", message.model_dump_json())
    end, nodes = monotonic() + _ARRIVAL, []
    for number in range(1, place.nodes):
        key = f"machine/{number}"
        while not store.check([key]):
            check()
            if monotonic() > end:
                why = f"node {number} of {place.nodes} did not connect within {_ARRIVAL:.0f} s"
                raise RankError(why, hint="start the same command on every machine, each with its own REPRISE_NODE")
            sleep(_PAUSE)
        arrival = parse_json(store.get(key), Arrival, where=f"the reply of node {number}", most=_LARGEST)
        if arrival.differs is not None:
            why = f"node {number} ({arrival.node.host.name}) does not take part: {arrival.differs}"
            raise RankError(why, hint="start the same command, from the same files, in the same image on every machine")
        nodes.append(arrival.node)
    return nodes


def join(place: NodePlace, *, check: Callable[[], None]) -> Any:
    """Return the key-value store that node 0 serves. Raise `RankError` if node 0 cannot be reached."""
    from trainer.training.shards.ranks import join_meeting

    return join_meeting(place.host, place.port, seconds=_ARRIVAL, check=check)


def arrive(store: Any, place: NodePlace, mine: Identified, *, devices: int, check: Callable[[], None]) -> Announcement:
    """Reply to node 0 from another machine, and return node 0's message. Raise `RankError` if the inputs differ."""
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
            f"this machine does not take part in run {found.run}: {differs}",
            hint="change this machine: node 0 determines the inputs",
        )
    return found


def difference(announced: Announcement, mine: Identified) -> str | None:
    """Describe the first difference of this machine from node 0 in ingredients, number of devices or CPU; `None` without a difference."""
    one, other = announced.ingredients.model_dump(mode="json"), mine.ingredients.model_dump(mode="json")
    if mine.circumstances.execution.get("init_from") is not None:
        one.pop("initial_weights", None)  # node 0 sends the weights of a run, which are verified by this digest
    for name in one:
        if one[name] == other[name]:
            continue
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            key = min(each for each in one[name] | other[name] if one[name].get(each) != other[name].get(each))
            return f"{name} {key} is {other[name].get(key)} here, but {one[name].get(key)} on node 0"
        return f"{name} is {other[name]} here, but {one[name]} on node 0"
    if (devices := mine.circumstances.execution.get("devices")) != announced.devices:
        return f"setting devices is {devices} here, but {announced.devices} on node 0"
    is_bound = announced.ingredients.determinism.level == Level.MACHINE.value
    cpu = mine.circumstances.host.cpu
    if is_bound and announced.ingredients.device.accelerator == "cpu" and cpu != announced.cpu:
        return f"its processor is {cpu}, but {announced.cpu} on node 0; determinism machine needs the same (or use portable)"
    return None
