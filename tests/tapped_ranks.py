"""One of two ranks that train with taps: python tapped_ranks.py RANK FOLDER."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn

import ranks
from plumbob.survey.modules import module_sites
from plumbob.survey.stream.units import Taps

WIDTH = 4
SIZES = [(5, 11), (1, 30), (16, 16)]  # of the batches of either rank, step by step


def batches():
    """What all ranks see, one pair of batches per step: mean 1000, sd 3."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(sum(pair), WIDTH, generator=generator) for pair in SIZES]
    return [(1000 + 3 * x).split(pair) for x, pair in zip(rows, SIZES, strict=True)]


def identity():
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Tanh())
    nn.init.eye_(model[0].weight)
    return model


def followed(model, rank):
    """Train over the batches; return what each step's taps held of all ranks."""
    taps = Taps(model, module_sites(model))
    taps.open(True)
    taps.watch_saturation(dict.fromkeys(taps.taps, 1001.0))
    found = []
    for pair in batches():
        x = pair[rank]
        model(x).sum().backward()
        (units,) = taps.collect(len(x), together=True).read().values()
        z = units.z
        found.append([z.count, z.mean, z.m2, z.low, z.high, z.positive, z.nonfinite])
        found[-1] += [units.beyond, np.full(WIDTH, units.samples)]
    return np.array(found)


def main(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    from torch.distributed.fsdp import fully_shard

    whole = nn.parallel.DistributedDataParallel(identity())
    found = {"ddp": followed(whole, rank)}
    if rank == 1:
        whole.module[0].weight.data[0] = torch.nan
    found["spoilt"] = followed(whole, rank)
    mesh = distributed.init_device_mesh("cpu", (2,))
    found["fsdp"] = followed(fully_shard(identity(), mesh=mesh), rank)
    np.savez(Path(folder) / f"{rank}.npz", **found)
    ranks.leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
