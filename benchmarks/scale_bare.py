"""Training loops over several processes without Reprise: DistributedDataParallel and FSDP2, with the nets of `bodies`.

For `scripts/bench scale`: `scale_bare.py ddp|fsdp2 transformer|small RANKS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from bodies import BATCH, BODIES, STEPS
from overhead_bare import print_time
from torch import distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def wrapped(kind: str, net: nn.Module, ranks: int) -> nn.Module:
    """Return the net, wrapped for a kind of parallel training if there are several processes."""
    if ranks == 1:
        return net
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(net)
    mesh = init_device_mesh("cpu", (ranks,))
    for name, each in net.named_children():
        if name == "layers":
            for layer in each.layers if hasattr(each, "layers") else ():  # type: ignore[union-attr] # a transformer's
                fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


def train(rank: int, kind: str, name: str, ranks: int, meeting: str) -> None:
    """Train in one process; rank 0 prints the time."""
    torch.set_num_threads(1)
    if ranks > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    net = wrapped(kind, BODIES[name](), ranks)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=kind == "ddp")
    warm, counted = STEPS[name]
    began = 0.0
    for step in range(warm + counted):
        if rank == 0 and step == 0:
            sys.stdout.write("first step\n")
            sys.stdout.flush()
        if step == warm:
            began = perf_counter()
        images, labels = torch.rand(BATCH // ranks, 1, 8, 8), torch.randint(10, (BATCH // ranks,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call] # torch has no types here
        optimizer.step()
    if rank == 0:
        print_time((perf_counter() - began) / counted)
    del net, optimizer  # DistributedDataParallel that outlives its group can wait forever at the end of the process
    if ranks > 1:
        distributed.destroy_process_group()


def main(kind: str, name: str, ranks: int) -> None:
    """Start the processes."""
    with TemporaryDirectory() as folder:
        arguments = (kind, name, ranks, str(Path(folder) / "meeting"))
        if ranks == 1:
            train(0, *arguments)
        else:
            multiprocessing.spawn(train, arguments, nprocs=ranks)  # type: ignore[attr-defined,no-untyped-call] # torch has no types here


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
