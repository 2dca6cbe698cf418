"""Trainings on two ranks, watched: `python two_ranks.py RANK FILE`."""

from datetime import timedelta

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import ranks
from plumbob.survey.stream import agreement
from plumbob.survey.stream.stream import Stream


def net():
    torch.manual_seed(0)
    # cut up, the last bias is on one rank alone
    return nn.Sequential(nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 1))


def run(case, rank):
    """Train for six steps; return the logs and what a closer look at them needs."""
    whole = model = net()
    if case in {"ddp", "alone", "broken"}:
        model = nn.parallel.DistributedDataParallel(whole)
    if case == "fsdp":
        mesh = init_device_mesh("cpu", (2,))
        for part in (whole[0], whole[2], whole):
            fully_shard(part, mesh=mesh)
    optimizer = torch.optim.SGD(whole.parameters(), 0.1)
    logs, stream = [], None
    if case != "alone" or rank == 0:
        stream = Stream(model, optimizer, every=1, burst=1, on_log=logs.append)
    torch.manual_seed(rank)
    for step in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 300)).square().mean().backward()
        if case == "drift" and step >= 3:  # nobody adds the gradients up
            pass
        elif case in {"drift", "by hand"}:
            for p in whole.parameters():
                distributed.all_reduce(p.grad)
        if case == "broken" and rank == 1 and step == 2:
            stream.marks.compare = None
        optimizer.step()
    distributed.barrier()
    if stream is not None:
        stream.close()
    return {
        "broken": stream and stream.broken,
        "steps": [log.step for log in logs if log.marks],
        "apart": [dict(log.apart) for log in logs],
        "sizes": {n: m.size for n, m in logs[0].marks.items()} if logs else {},
        "norms": {n: m.gradient for n, m in logs[0].marks.items()} if logs else {},
        "moved": {n: m.moved for n, m in logs[-1].marks.items()} if logs else {},
        "seen": sum(int(w.z.count[0]) for w in logs[0].windows.values()) if logs else 0,
    }


CASES = ("ddp", "fsdp", "drift", "broken", "alone")


def main():
    rank, found = ranks.join(), {}
    for case in CASES:
        agreement.WAIT = timedelta(seconds=2 if case == "alone" else 30)
        found[case] = run(case, rank)
    ranks.leave(found)


if __name__ == "__main__":
    main()
