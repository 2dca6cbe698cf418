"""What `plumbob.check` costs, room by room and rule by rule.

Every figure is a ratio to one forward and backward pass of the same model on the same
batch, in processor seconds of one thread. The model has the size of BERT-base (12
layers, width 768, batches of 8 x 128 tokens), its weights are random, and it is checked
with a loss and an optimiser, so that everything is measured; `--small` takes an MLP, a
CNN and a small transformer.

A rule is charged its own judging and, in full, every room that it needs beyond the
shared ones (the trace, the one pass over the data, the moments of the weights): a room
that several rules need is charged to each of them. The export of the two graphs stands
apart, since it does not grow with the batch.
Run: OMP_NUM_THREADS=1 python benchmarks/check.py [--small]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from plumbob.rule import findings
from plumbob.rules import RULES
from plumbob.survey import measure, structures
from plumbob.types import Needs, Rule

SHARED = ("export", "structure", "probe", "weigh", "stages")
# A room of its own -> who needs it.
OWN: dict[str, Callable[[Rule], bool]] = {
    "proofs": lambda rule: rule.code.startswith("PB3"),
    "output_facts": lambda rule: Needs.TARGETS in rule.needs,
    "spectra": lambda rule: Needs.SPECTRA in rule.needs,
    "first_break": lambda rule: rule.name == "non-finite-activation",
    "inputs": lambda rule: Needs.INPUTS in rule.needs,
    "loss": lambda rule: Needs.LOSS in rule.needs,
    "signals": lambda rule: Needs.SIGNALS in rule.needs,
    "step": lambda rule: Needs.STEP in rule.needs,
}
ROOMS = (*SHARED, *OWN)
AIM, ALL = 1.0, 6.0


class Bert(nn.Module):
    """Tokens to two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(30522, 768), nn.Embedding(512, 768)
        self.norm = nn.LayerNorm(768)
        layer = nn.TransformerEncoderLayer(
            768, 12, 3072, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(768, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.tokens(tokens) + self.places(places))
        return self.head(self.encoder(x)[:, 0])


def bert() -> tuple[nn.Module, torch.Tensor, int]:
    model = Bert()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
    return model, torch.randint(30522, (8, 128)), 2


def mlp() -> tuple[nn.Module, torch.Tensor, int]:
    model = nn.Sequential(
        *(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()),
        nn.Linear(1024, 10),
    )
    return model, torch.randn(512, 784), 10


def cnn() -> tuple[nn.Module, torch.Tensor, int]:
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(64, 10),
    )
    return model, torch.randn(64, 3, 32, 32), 10


def transformer() -> tuple[nn.Module, torch.Tensor, int]:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
        *(nn.Flatten(), nn.Linear(256 * 64, 10)),
    )
    return model, torch.randn(16, 64, 256), 10


class Clock:
    """Processor seconds by room; what a room calls of another counts there."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(ROOMS, 0.0)
        self.inside = [0.0]

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            self.inside.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                taken = time.process_time() - start
                self.spent[name] += taken - self.inside.pop()
                self.inside[-1] += taken

        return inner

    def rooms(self) -> ExitStack:
        """Time the rooms while it is open."""
        stack = ExitStack()
        for name in ROOMS:
            if name in measure.FACTS:
                timed = self.timed(name, measure.FACTS[name])
                stack.enter_context(patch.dict(measure.FACTS, {name: timed}))
                continue
            home = structures if hasattr(structures, name) else measure
            timed = self.timed(name, getattr(home, name))
            stack.enter_context(patch.object(home, name, timed))
        return stack


def step(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    value = nn.functional.cross_entropy(model(x), y)
    torch.autograd.grad(value, list(model.parameters()))


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def report(name: str, model: nn.Module, x: torch.Tensor, classes: int) -> bool:
    """Print what a check of a model costs; return whether the aims are met."""
    y = torch.arange(len(x)) % classes
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    step(model, x, y)
    unit = statistics.median(seconds(lambda: step(model, x, y)) for _ in range(3))
    clock = Clock()

    def check() -> Any:
        return measure.measure(
            model,
            x,
            targets=y,
            loss=nn.CrossEntropyLoss(),
            optimizer=optimizer,
            stage="init",
        )

    found: list[Any] = []
    with clock.rooms():
        whole = seconds(lambda: found.append(check())) / unit
    rooms = {room: spent / unit for room, spent in clock.spent.items()}
    (survey,) = found
    print(f"{name}: one forward and backward pass takes {unit:.2f} s")
    for room, ratio in rooms.items():
        print(f"  {room:28}{ratio:8.3f}{'  shared' if room in SHARED else ''}")
    print(f"  {'all else':28}{whole - sum(rooms.values()):8.3f}")
    rows: list[tuple[float, Rule, str]] = []
    judging = 0.0
    for rule in RULES:
        missing = (rule.needs & ~survey.known).words
        own = 0.0
        if not missing:
            own = seconds(lambda rule=rule: list(findings(rule, survey))) / unit
        needs = [room for room, needed in OWN.items() if needed(rule)]
        told = ", ".join(needs) + f" (unknown: {', '.join(missing)})" * bool(missing)
        rows.append((own + sum(rooms[room] for room in needs), rule, told))
        judging += own
    for ratio, rule, told in sorted(rows, key=lambda row: (-row[0], row[1].code)):
        print(f"  {rule.code} {rule.name:32}{ratio:8.3f}  {told}")
    worst = max(ratio for ratio, _, _ in rows)
    rest = whole - rooms["export"] + judging
    print(f"  the dearest rule {worst:.2f} (aim: at most {AIM:.0f})")
    print(f"  check without export {rest:.1f} (aim: below {ALL:.0f})", flush=True)
    return worst <= AIM and rest < ALL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="three small models")
    given = parser.parse_args()
    torch.set_num_threads(1)
    good = True
    for make in (mlp, cnn, transformer) if given.small else (bert,):
        torch.manual_seed(0)
        good &= report(make.__name__, *make())
    return not good


if __name__ == "__main__":
    raise SystemExit(main())
