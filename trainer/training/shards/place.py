"""The place of a process among the processes of a run. Does not import torch, because the launcher of the processes uses it too."""

from __future__ import annotations

from trainer.base.document import Document


class RankPlace(Document):
    """The place of a process among the processes of a run. Every machine has the same number of processes."""

    rank: int
    world: int
    local_rank: int
    """The number of this process on its machine."""
    here: int
    """The number of processes on this machine."""
    meeting: str
    """Where the processes meet: a file if there is one machine, otherwise `tcp://HOST:PORT` of node 0."""

    @property
    def node(self) -> int:
        """The number of this machine."""
        return self.rank // self.here

    @property
    def nodes(self) -> int:
        """The number of machines."""
        return self.world // self.here
