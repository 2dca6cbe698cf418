"""What `plumbob.check(model, data, loss=...)` costs, room by room.

Every figure is a ratio to one forward and backward pass of the same model on the same
batch, the median of several in one run; the export of the two graphs stands apart.
Run: OMP_NUM_THREADS=1 python benchmarks/check.py
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import plumbob
from plumbob.survey import measure
from plumbob.survey.batches import Batch

ROOMS = ("export", "structure", "proofs", "probe", "weigh", "stages", "output_facts")


def nets() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    mlp = nn.Sequential(
        *(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()),
        nn.Linear(1024, 10),
    )
    cnn = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(64, 10),
    )
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    transformer = nn.Sequential(
        nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
        *(nn.Flatten(), nn.Linear(256 * 64, 10)),
    )
    return {
        "mlp": (mlp, torch.randn(512, 784)),
        "cnn": (cnn, torch.randn(64, 3, 32, 32)),
        "transformer": (transformer, torch.randn(16, 64, 256)),
    }


def median(call: Callable[[], Any], times: int = 5) -> float:
    taken: list[float] = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def rooms(call: Callable[[], Any]) -> dict[str, float]:
    """Return the processor seconds of one call, room by room."""
    spent = dict.fromkeys(ROOMS, 0.0)
    originals = {name: getattr(measure, name) for name in ROOMS}

    def timed(name: str) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return originals[name](*args, **kwargs)
            finally:
                spent[name] += time.process_time() - start

        return inner

    for name in ROOMS:
        setattr(measure, name, timed(name))
    start = time.process_time()
    try:
        call()
    finally:
        for name, original in originals.items():
            setattr(measure, name, original)
    spent["all else"] = time.process_time() - start - sum(spent.values())
    return spent


def main() -> None:
    torch.set_num_threads(1)
    loss = nn.CrossEntropyLoss()
    print(f"{'':12}{'step, ms':>9}" + "".join(f"{r:>13}" for r in (*ROOMS, "all else")))
    for name, (model, x) in nets().items():
        y = torch.randint(10, (len(x),))
        batch = Batch(args=(x,), targets=y, samples=len(x))

        def step(model: nn.Module = model, batch: Batch = batch) -> None:
            value = loss(model(*batch.args), batch.targets)
            torch.autograd.grad(value, list(model.parameters()))

        def check(model: nn.Module = model, batch: Batch = batch) -> None:
            plumbob.check(model, *batch.args, targets=batch.targets, loss=loss)

        check(), step()
        unit = median(step)
        runs = [rooms(check) for _ in range(3)]
        spent = {r: statistics.median(run[r] for run in runs) / unit for r in runs[0]}
        print(
            f"{name:12}{1000 * unit:>9.1f}"
            + "".join(f"{ratio:>13.2f}" for ratio in spent.values())
        )
        rest = sum(spent.values()) - spent["export"]
        print(f"{'':12}check without export: {rest:.1f} (aim: below 6)")


if __name__ == "__main__":
    main()
