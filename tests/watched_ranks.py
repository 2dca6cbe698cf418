"""Whole watches on two ranks: `python watched_ranks.py RANK FILE`."""

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import plumbob
import ranks


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def run(case, rank, *, watching=True):
    """Train; from a step on the second rank alone sees what is not finite."""
    whole = model = net()
    if case == "fsdp":
        mesh = init_device_mesh("cpu", (2,))
        for part in (whole[0], whole[3], whole):
            fully_shard(part, mesh=mesh)
    else:
        model = nn.parallel.DistributedDataParallel(whole)
    optimizer, loss = torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss()
    options = {"loss": loss, "every": 1, "on_finding": None}
    watch = plumbob.watch(model, optimizer, **options) if watching else None
    torch.manual_seed(rank)
    values = []
    for step in range(8):
        if watch and case == "leaves" and rank and step == 4:
            watch.close()
        x = torch.randn(16, 6)
        if case in {"broken", "fsdp"} and rank and step == 6:
            x = x.log()
        value = loss(model(x), torch.arange(16) % 3)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    if watch is None:
        return {"values": values}
    watch.close()
    return {
        "values": values,
        "broken": watch.stream.broken or watch.unseen.get("watching"),
        "ranks": watch.stream.agreement.ranks,
        "codes": [f.code for f in watch.findings],
        "taken": watch.judged.history.taken,
    }


def main():
    rank, found = ranks.join(), {}
    for case in ("ddp", "broken", "fsdp", "leaves"):
        found[case] = run(case, rank)
        bare = run(case, rank, watching=False)["values"]
        found[case]["same"] = repr(found[case]["values"]) == repr(bare)
        distributed.barrier()
    ranks.leave(found)


if __name__ == "__main__":
    main()
