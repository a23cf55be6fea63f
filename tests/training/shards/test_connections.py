"""A rank that ends: gloo's threads own no tensor of an exchange when the interpreter ends, which would abort the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.trains]
ROOT: Final = Path(__file__).parents[3]
PAIRS: Final = 4
"""Without the wait for the threads, about 10 of 16 processes were aborted."""
RANK: Final = """
import os, sys, torch
from pathlib import Path
from torch import distributed
from trainer.training.shards.connections import disconnect
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=int(sys.argv[1]), world_size=2)
kept = distributed.group.WORLD  # as distributed parameters keep it
one = {min(os.sched_getaffinity(0))}
for thread in Path("/proc/self/task").iterdir():
    os.sched_setaffinity(int(thread.name), one)
    if "gloo_run" in (thread / "comm").read_text():
        os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))  # runs when no other thread needs the CPU
for _ in range(3):
    distributed.all_reduce(torch.ones(4))
disconnect(is_failed=False)
"""


def test_a_rank_ends_without_being_aborted_while_a_thread_owns_a_tensor(tmp_path: Path) -> None:
    environ = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    for pair in range(PAIRS):
        words = [sys.executable, "-c", RANK]
        ranks = [
            subprocess.Popen([*words, str(rank), str(tmp_path / f"{pair}")], cwd=ROOT, env=environ) for rank in range(2)
        ]
        try:
            assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
