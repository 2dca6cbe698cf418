"""Facts about what a few steps of the optimiser do, tried on a copy."""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor

from plumbob.errors import one_line
from plumbob.survey.clipping import clipping
from plumbob.survey.optimizer import each
from plumbob.survey.penalty import penalties
from plumbob.survey.scene import Scene
from plumbob.survey.trainee import Gradients, Trainee
from plumbob.types import Move, Step

STEPS = 20
AFFORDED = 2e9  # multiplications in all steps; a third of a second
MOST = 2**30  # parameters: the trial holds three copies of each and more
SHARES = (1 / 4, 1 / 16, 1 / 64, 1 / 256)  # of the learning rate, tried if too large


def step_facts(scene: Scene) -> tuple[Step | None, str]:
    """Return what steps of the optimiser do to the first batch, and what is not known.

    A small model takes STEPS in training mode, each with the batch's own gradient and
    the same random numbers. A large one takes one step with the gradient as measured,
    and gives the loss after it.
    """
    if scene.probed.loss is None:
        return None, "no loss given"
    with warnings.catch_warnings():  # those of the user's code were told already
        warnings.simplefilter("ignore")
        known, why = Step(samples=scene.batch.samples), ""
        try:
            pulls, data = penalties(scene)
            known = replace(known, pulls=pulls, data=data)
        except Exception as error:  # the user's loss may raise anything
            why = f"the loss cannot be asked again: {one_line(error)}"
        if scene.optimizer is None:
            return known, why
        if why_not := refused(scene):
            return known, why_not
        try:
            found = _tried(scene, known)
        except Exception as error:  # whatever the user's model or optimiser raises
            return known, f"no step can be tried: {one_line(error)}"
        if found.losses and found.losses[0] <= 0:
            why = why or "a loss of 0 or below has no share that it rises by"
        return found, why


def refused(scene: Scene) -> str:
    """Return why no step is tried, "" if one is."""
    held = set[int]()
    for one in each(scene.optimizer):
        takes = inspect.signature(type(one).step).parameters.get("closure")
        empty = takes is not None and takes.default is inspect.Parameter.empty
        if empty or isinstance(one, torch.optim.LBFGS):
            return f"{type(one).__name__} asks for the loss anew within a step"
        held |= {id(p) for group in one.param_groups for p in group["params"]}
    own = list(scene.model.parameters())
    if held.isdisjoint(map(id, own)):
        return "the optimiser holds none of this model's parameters"
    if sum(p.numel() for p in own) > MOST:
        return f"more than {MOST} parameters: their copies would not fit"
    if not scene.probed.mean_gradients:
        return "no gradient is known"
    return ""


def _tried(scene: Scene, known: Step) -> Step:
    small = 3 * _work(scene) * STEPS <= AFFORDED
    if small and not scene.model.training:
        scene.model.train()
    moves, losses, curvature = (_run if small else _once)(scene, _trainee(scene))
    groups = [g for one in each(scene.optimizer) for g in one.param_groups]
    share = None
    if small and _leaps(losses):
        share = next((s for s in SHARES if not _leaps(_slower(scene, s))), None)
    return replace(
        known,
        moves=moves,
        losses=tuple(losses),
        curvature=curvature,
        share=share,
        warming=any(float(g["lr"]) < float(g.get("initial_lr", 0.0)) for g in groups),
        clipping=clipping(each(scene.optimizer)),
    )


def _trainee(scene: Scene) -> Trainee:
    loss = scene.loss if scene.given else None
    return Trainee(scene.model, scene.optimizer, scene.batch, loss)


def _work(scene: Scene) -> float:
    """Return the multiplications of one forward pass of the batch."""
    probed = scene.probed
    done = sum(
        site.out * site.fan_in * float(reading.z.count.max(initial=0))
        for site in scene.sites
        if (reading := probed.readings.get(site.name)) and reading.z is not None
    )
    least = sum(p.numel() for p in scene.model.parameters()) * probed.samples
    return max(done, least) * scene.batch.samples / max(probed.samples, 1)


def _run(
    scene: Scene, trainee: Trainee
) -> tuple[Mapping[str, Move], list[float], float]:
    """Take steps, each with the batch's gradient where it stands."""
    moves: Mapping[str, Move] = {}
    losses, curvature = list[float](), 0.0
    start = {n: p.detach() for n, p in scene.model.named_parameters()}
    before: Gradients = {}
    first = before
    change = dict[str, Tensor]()
    for number in range(STEPS):
        value, now = trainee.gradients()
        losses.append(value)
        if number:
            curvature = max(curvature, _bend(before, now, change))
        if not isfinite(value):
            break
        old = {n: p.detach().clone() for n, p in trainee.parameters.items()}
        trainee.step(now)
        if not number:
            moves, first = _moves(start, trainee.parameters, now), now
        change = {n: trainee.parameters[n].detach() - w for n, w in old.items()}
        before = now
    else:
        losses.append(trainee.loss())
        # A momentum only gathers: what moves at all is told by the last step.
        last = _moves(start, trainee.parameters, first)
        moves = {n: replace(m, still=last[n].still) for n, m in moves.items()}
    return moves, losses, curvature


def _once(
    scene: Scene, trainee: Trainee
) -> tuple[Mapping[str, Move], list[float], float]:
    """Take one step; how far it is too long is read off the loss before and after."""
    probed, gradients = scene.probed, scene.probed.mean_gradients
    only = probed.samples == scene.batch.samples
    first = trainee.loss() if probed.loss is None or not only else probed.loss
    start = {n: p.detach() for n, p in scene.model.named_parameters()}
    trainee.step(gradients)
    moves = _moves(start, trainee.parameters, gradients)
    then = trainee.loss()
    slope = sum(
        float((g * (trainee.parameters[n].detach() - start[n])).sum())
        for n, g in gradients.items()
    )
    bend = 2 * (1 - (then - first) / slope) if slope < 0 else 0.0
    return moves, [first, then], bend if isfinite(bend) else 0.0


def _bend(before: Gradients, now: Gradients, change: Mapping[str, Tensor]) -> float:
    """Return how much of the slope along a step is gone at its end: 1 at the bottom.

    Of a parabola it is lr * v'Hv for a step of plain SGD, v the step's direction; 2
    is where the loss after the step is that of before. Uphill, as a momentum may
    lead, there is nothing to say.
    """
    slope = _dot(before, change)
    if not slope < 0:
        return 0.0
    bend = 1 - _dot(now, change) / slope
    return bend if isfinite(bend) else 0.0


def _dot(gradients: Gradients, change: Mapping[str, Tensor]) -> float:
    total = 0.0
    for name, moved in change.items():
        g = gradients.get(name)
        if g is not None:
            g = g.to_dense() if g.is_sparse else g
            total += float((g * moved).sum(dtype=torch.float64))
    return total


def _slower(scene: Scene, share: float) -> list[float]:
    """Return the losses of the same steps at a part of the learning rate."""
    trainee = _trainee(scene)
    for one in trainee.optimizers:
        for group in one.param_groups:
            group["lr"] = group["lr"] * share
    return _run(scene, trainee)[1]


def _leaps(losses: list[float]) -> bool:
    """Whether the loss rises to twice its start, or ends above it."""
    finite = all(map(isfinite, losses))
    return not finite or max(losses) > 2 * losses[0] or losses[-1] > losses[0]


def _moves(
    old: Mapping[str, Tensor], now: Mapping[str, Tensor], gradients: Gradients
) -> dict[str, Move]:
    return {
        name: _move(old[name], now[name].detach(), gradients.get(name)) for name in old
    }


def _move(old: Tensor, new: Tensor, g: Tensor | None) -> Move:
    change = float(torch.linalg.vector_norm(new - old, dtype=torch.float64))
    pulled = still = broken = 0
    if g is not None:
        g = g.to_dense() if g.is_sparse else g
        asked = (g != 0) & g.isfinite()
        pulled, still = int(asked.sum()), int((asked & (new == old)).sum())
    if not isfinite(change):
        harmless = old.isfinite() if g is None else old.isfinite() & g.isfinite()
        broken = int((harmless & ~new.isfinite()).sum())
    return Move(
        pulled=pulled,
        still=still,
        broken=broken,
        change=change,
        size=float(torch.linalg.vector_norm(old, dtype=torch.float64)),
    )
