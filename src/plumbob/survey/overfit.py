"""Whether a few samples can be learnt by heart, tried on copies."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.survey.batches import Batch
from plumbob.survey.guard import same_random
from plumbob.survey.optimizer import each
from plumbob.survey.outcome import has_rows, heads
from plumbob.survey.output import output_facts
from plumbob.survey.probe import probe
from plumbob.survey.scene import Scene
from plumbob.survey.step import MOST, refused
from plumbob.survey.trainee import Trainee
from plumbob.types import Output, Overfit, Try

STEPS = 300
SAMPLES = 32
FEWEST = 8  # of which the best constant output can be told
LEARNT = 0.25  # of the way from the best constant output's loss to the floor
SLIGHT = 1e-3
FALLEN = 0.1  # of the loss, where that way is not known
RATES = (1e-3, 1e-2, 1e-4)  # of Adam; the likeliest first


def overfit_facts(
    scene: Scene, tell: Callable[[str], None]
) -> tuple[Overfit | None, str]:
    """Let copies learn a few samples of the first batch; say what is not known.

    The user's optimiser is tried first, then Adam on the same parameters at each of
    RATES, until one gets there. All is done in training mode, as a training loop
    would, with the same random numbers in every pass: dropout is then a part of the
    function, and cannot keep the samples from being learnt.
    """
    if scene.probed.loss is None:
        return None, "no loss given"
    size = sum(p.numel() for p in scene.model.parameters())
    if size > MOST:
        return None, f"more than {MOST} parameters: their copies would not fit"
    with warnings.catch_warnings():  # those of the user's code were told already
        warnings.simplefilter("ignore")
        if not scene.model.training:
            scene.model.train()
        few = _few(scene.batch, scene.model)
        if few is None:
            return None, "too few parameters to learn so many samples by heart"
        output, first, why = _known(scene, few)
        if not isfinite(first):
            return None, "the loss is not finite"
        bounds = {}
        goal = first - FALLEN * abs(first)
        if output is not None and output.floor is not None:
            # a mean, or a sum; in float64 a clamped loss may be another
            per = min((1, few.samples), key=lambda n: abs(n * output.loss - first))
            constant, floor = per * output.constant, per * output.floor
            if constant - floor > SLIGHT * abs(constant):
                goal = constant - LEARNT * (constant - floor)
                bounds = {"constant": constant, "floor": floor}
            else:
                why = "the best constant output is as good as any other"
        found = Overfit(samples=few.samples, first=first, goal=goal, tries=(), **bounds)
        return replace(found, tries=tuple(_tries(scene, few, goal, tell))), why


def _few(batch: Batch, model: nn.Module) -> Batch | None:
    """Return some of the first samples, not more than the parameters can learn.

    None where even so few are too many. Where it is not clear what belongs to a
    sample, the whole batch is taken.
    """
    aims = [t for t in pytree.tree_leaves(batch.targets) if isinstance(t, Tensor)]
    each_asks = max(1, sum(t.numel() for t in aims) // batch.samples)
    free = sum(p.numel() for p in model.parameters() if p.requires_grad)
    learnable = free // (2 * each_asks)
    wanted = min(batch.samples, SAMPLES, max(learnable, FEWEST))
    few = batch.few(wanted)
    if few is batch or not all(has_rows(t, batch.samples) for t in aims):
        few = batch
    else:
        targets = pytree.tree_map_only(Tensor, lambda t: t[:wanted], batch.targets)
        few = replace(few, targets=targets)
    return few if few.samples <= learnable else None


def _known(scene: Scene, few: Batch) -> tuple[Output | None, float, str]:
    """Return what constants of the output reach on these samples, and their loss."""
    loss = scene.loss if scene.given else None
    probed = probe(scene.model, [few], scene.sites, loss=loss, gradients=False)
    assert probed.loss is not None
    if scene.loss is None:
        return None, probed.loss, "the loss of the best constant output is not known"
    made = probed.net_inputs
    z = [(h, made[h.name]) for h in heads(scene.sites) if h.name in made]
    output, why = output_facts(z, probed.outputs, probed.targets, scene.loss)
    return output, probed.loss, why.get("targets", "")


def _tries(
    scene: Scene, few: Batch, goal: float, tell: Callable[[str], None]
) -> Iterator[Try]:
    """Yield one try after the other, until one reaches the goal."""
    own = scene.optimizer is not None and not refused(scene)
    for rate in (None, *RATES) if own else RATES:
        with same_random():
            trainee = _trainee(scene, few, rate)
            name = " + ".join(type(one).__name__ for one in trainee.optimizers)
            groups = [g for one in trainee.optimizers for g in one.param_groups]
            lr = max(float(g["lr"]) for g in groups)
            steps, half, low = _run(trainee, name, goal, tell)
            found = Try(
                optimizer=name,
                own=rate is None,
                lr=lr,
                steps=steps,
                half=half,
                low=low,
            )
        yield found
        if found.low <= goal:
            return


def _trainee(scene: Scene, few: Batch, rate: float | None) -> Trainee:
    """Return a copy with the user's optimiser, or with Adam on what that holds."""
    loss = scene.loss if scene.given else None
    given = scene.optimizer if scene.optimizer is not None else []
    if rate is None:
        trainee = Trainee(scene.model, given, few, loss)
        for one in trainee.optimizers:
            for group in one.param_groups:  # not those of a warm-up
                group["lr"] = max(group["lr"], group.get("initial_lr", group["lr"]))
        return trainee
    trainee = Trainee(scene.model, [], few, loss)
    groups = [g for one in each(given) for g in one.param_groups]
    held = {id(p) for g in groups for p in g["params"]}
    named = [(n, p) for n, p in scene.model.named_parameters() if p.requires_grad]
    chosen = [(n, p) for n, p in named if id(p) in held] or named
    eps = max(1e-8, *(torch.finfo(p.dtype).tiny for _, p in chosen))
    copies = [trainee.parameters[n] for n, _ in chosen]
    trainee.optimizers = [torch.optim.Adam(copies, lr=rate, eps=eps)]
    return trainee


def _run(
    trainee: Trainee, name: str, goal: float, tell: Callable[[str], None]
) -> tuple[int, float, float]:
    """Step to the goal; return steps, the lowest loss of half of them, and of all.

    Where steps lead to outputs that the loss refuses, it is no longer finite.
    """
    half = low = float("inf")
    steps = 0
    for steps in range(STEPS + 1):
        try:
            value, gradients = trainee.gradients()
        except Exception:  # the user's own code may raise anything
            if steps == 0:
                raise
            break
        low = min(low, value) if isfinite(value) else low
        if steps <= STEPS // 2:
            half = low
        if steps % 10 == 0:
            of = f"{name}, step {steps} of {STEPS}"
            tell(f"learning a few samples by heart: {of}, loss {value:.3g}")
        if low <= goal or not isfinite(value) or steps == STEPS:
            break
        trainee.step(gradients)
    return steps, half, low
