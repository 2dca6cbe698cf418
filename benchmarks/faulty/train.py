"""Train a case, and look at it on the way: at the start, early and at the end."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import plumbob
from faulty.data import Data, load
from faulty.model import build, loss_of, optimizer_of

PHASES = ("init", "early", "end")
EARLY = 10  # steps
ROWS = 256
BUILT = ("id", "task", "classes", "data", "layers", "loss", "optimizer", "l2")
BUILT += ("flip_gradient", "batch_size", "epochs", "max_steps")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A case under one seed: everything that its training loop holds."""

    case: dict[str, Any]
    data: Data
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer


def bare(case):
    """Return what a training is built from, without what the case says of itself."""
    return {key: case[key] for key in BUILT if key in case}


def begin(case, seed):
    torch.manual_seed(seed)
    data = load(case)
    model = build(case, data.x)
    return Run(
        case=case,
        data=data,
        model=model,
        loss=loss_of(case, data.classes, model),
        optimizer=optimizer_of(case, model),
    )


def loader(run, seed):
    """Return the shuffled training batches that a user would hand to the check.

    Small batches are joined to 256 rows: a batch of one or of sixteen says little of a
    population, and the mean loss of more rows estimates the same. A summed loss of more
    rows is another one, so there the batches are those of the training loop.
    """
    x, y = run.data.x, run.data.y
    rows = run.case["batch_size"]
    if run.case["loss"].get("reduction") != "sum":
        rows = max(rows, ROWS)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    parts = order.split(rows)
    if len(parts) > 1 and len(parts[-1]) < rows / 2:
        parts = parts[:-1]
    return [(x[part], y[part]) for part in parts]


def look(run, seed, stage):
    """Check a run as it stands."""
    return plumbob.check(
        run.model,
        loader(run, seed),
        loss=run.loss,
        optimizer=run.optimizer,
        stage=stage,
    )


def train(run, on_step=None, on_epoch=None, judge=None):
    """Train to the end; after each step `on_step(steps)`, then `on_epoch()`.

    `judge` stands for the loss, which a watch hears so.
    """
    judge = judge or run.loss
    case, model, x, y = run.case, run.model, run.data.x, run.data.y
    size = min(case["batch_size"], len(x))
    normed = any(spec["type"] == "batchnorm" for spec in case["layers"])
    last, steps = case.get("max_steps"), 0
    for _ in range(case["epochs"]):
        finite = True
        for rows in torch.randperm(len(x)).split(size):
            if normed and len(rows) < 2:
                continue
            run.optimizer.zero_grad()
            loss = judge(model(x[rows]), y[rows])
            (-loss if case.get("flip_gradient") else loss).backward()
            run.optimizer.step()
            finite = finite and bool(loss.isfinite())
            steps += 1
            if on_step:
                on_step(steps)
            if last and steps >= last:
                return
        if on_epoch:
            on_epoch()
        if not finite:
            return


def watched(run, every):
    """Train to the end, watched as a user would: each loss, and those of held rows.

    Returns:
        The closed watch, and the (step, finding) that it warned of on the way.
    """
    told = []

    def tell(step, finding):
        told.append((step, finding))

    @torch.no_grad()
    def validate():
        if len(run.data.held_x):
            run.model.eval()
            watch.loss(run.model(run.data.held_x), run.data.held_y)
            run.model.train()

    with plumbob.watch(
        run.model, run.optimizer, loss=run.loss, every=every, on_finding=tell
    ) as watch:
        train(run, on_epoch=validate, judge=watch.loss)
    return watch, told


def states(run, kept):
    """Yield (phase, stage), the run being in that state; train only where not kept."""
    yield "init", "init"
    if kept and kept.exists():
        held = torch.load(kept)
    else:
        held = {}

        def keep(steps):
            if steps == EARLY:
                held["early"] = frozen(run)

        train(run, keep)
        held["end"] = frozen(run)
        held.setdefault("early", held["end"])
        if kept:
            part = kept.with_suffix(f".{os.getpid()}")  # others may be reading
            torch.save(held, part)
            part.rename(kept)
    for phase, stage in (("early", None), ("end", "trained")):
        run.model.load_state_dict(held[phase]["model"])
        run.optimizer.load_state_dict(held[phase]["optimizer"])
        yield phase, stage


def frozen(run):
    parts = {"model": run.model, "optimizer": run.optimizer}
    return {name: deepcopy(part.state_dict()) for name, part in parts.items()}


def kept_in(folder, case, seed):
    """Return where a training is kept, None without a folder."""
    return folder / f"{case['id']}.{seed}.pt" if folder else None


@torch.no_grad()
def score(run):
    """Return accuracy or R2 on the training rows; None where an output is not finite.

    Of several labels all must be right.
    """
    y, task = run.data.y, run.case["task"]
    run.model.eval()
    out = run.model(run.data.x)
    run.model.train()
    if not out.isfinite().all():
        return None
    if task == "multiclass":
        said = out.argmax(1) if out.shape[1] > 1 else out[:, 0].round()
        return float((said == y.reshape(-1)).float().mean())
    if task == "binary":
        two = out.shape[1] == 2
        at = 0.0 if two or run.case["loss"]["name"] == "bce_logits" else 0.5
        p = out[:, 1] - out[:, 0] if two else out[:, 0]
        return float(((p > at).float() == y.reshape(-1)).float().mean())
    if task == "multilabel":
        return float(((out > 0.5).float() == y).all(1).float().mean())
    Y = y if y.ndim > 1 else y[:, None]
    return float(1 - ((out - Y) ** 2).mean() / ((Y - Y.mean(0)) ** 2).mean())
