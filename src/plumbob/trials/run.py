"""One training: from the model that a seed gives to its curve of validation losses."""

import copy
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil, isfinite
from typing import Any

import torch
from torch import Tensor, nn

from plumbob import address
from plumbob.errors import InputError, PlumbobError, one_line
from plumbob.survey.batches import Batch, batches
from plumbob.survey.guard import same_random
from plumbob.survey.optimizer import each
from plumbob.survey.probe import loss_of
from plumbob.trials.feed import Feed, opened, seed_all
from plumbob.trials.holdout import hold_out
from plumbob.trials.pairing import Print
from plumbob.trials.record import Run

POINTS = 20  # validations on the way
AS_IS = "as it is"
_TRAINING = 1 << 20  # added to the seed: dropout must not repeat the draws of the init

Metric = Callable[[Any, Any], Any]
Did = tuple[tuple[str, str], ...]
# (model, optimiser, training batches, loss) -> (optimiser, acts and their sites)
Change = Callable[[nn.Module, Any, Feed, Any], tuple[Any, Did]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all runs of a trial share; the first four also as addresses."""

    build: Any
    data: Any
    loss: Any
    optimizer: Any
    valid: Any = None
    metric: Any = None
    steps: int = 500
    arms: Mapping[str, Change]
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)

    @property
    def every(self) -> int:
        """Steps between two validations."""
        return ceil(self.steps / POINTS)


@dataclass(slots=True, kw_only=True)
class Start:
    """All that one seed gives, before the first step."""

    model: nn.Module
    optimizer: Any
    loss: Callable[..., Any] | None
    train: Feed
    valid: Feed


def start(plan: Plan, seed: int) -> Start:
    """Make model, optimiser and data as the seed has them: the same for every arm.

    Raises:
        InputError: one of them cannot be had from what was given.
        AddressError: an address leads nowhere.
    """
    seed_all(seed)
    model = _model(plan.build)
    data = opened(plan.data, seed)
    valid = plan.valid
    data, valid = hold_out(data, seed) if valid is None else (data, opened(valid, seed))
    loss = _loss(plan.loss)
    device = next((p.device for p in model.parameters()), None)
    return Start(
        model=model,
        optimizer=_optimizer(plan.optimizer, model),
        loss=loss,
        train=Feed(data, seed, device=device, shuffle=True),
        valid=Feed(valid, seed, device=device),
    )


def run(plan: Plan, arm: str, seed: int) -> Run:
    """Train one arm from one seed; leave the generators and threads as they were.

    Raises:
        InputError: whatever failed, with the arm and the seed.
    """
    began = time.monotonic()
    try:
        with alone(plan.dtype):
            ready, given = start(plan, seed), Print()
            given.model(ready.model)
            given.mark()
            change = plan.arms[arm]
            optimizer, did = change(
                ready.model, ready.optimizer, ready.train, ready.loss
            )
            ready.optimizer = optimizer
            seed_all(seed + _TRAINING)
            curve, diverged = _train(plan, ready, given)
    except Exception as error:  # the user's code may raise anything
        text = str(error) if isinstance(error, PlumbobError) else one_line(error)
        raise InputError(f"the run '{arm}' of seed {seed} failed: {text}") from error
    return Run(
        arm=arm,
        seed=seed,
        curve=tuple(curve),
        did=did,
        diverged=diverged,
        given=tuple(given.marks),
        seconds=time.monotonic() - began,
    )


@contextmanager
def alone(dtype: torch.dtype) -> Generator[None, None, None]:
    """Compute on one thread, as every process of a trial does; put all back after.

    Sums over several threads depend on their number, and with them the table.
    """
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)
    try:
        with same_random(), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(default)


def _model(build: Any) -> nn.Module:
    """Return a model that nobody else holds.

    Raises:
        InputError: nothing or something else is made.
    """
    if isinstance(build, str):
        made = address.model(build)
    else:
        made = build if isinstance(build, nn.Module) else build()
    if not isinstance(made, nn.Module):
        raise InputError(
            f"expected build to make a torch.nn.Module, got {type(made).__name__}"
        )
    try:  # also what a function made, which may return the same one each time
        made = copy.deepcopy(made)
    except RuntimeError as error:  # torch copies no computed tensor, as weight norm's
        if made is build or isinstance(build, str):
            raise InputError(
                f"{type(made).__name__} cannot be copied ({one_line(error)}); pass a "
                "function that makes it"
            ) from error
    if not made.training:
        made.train()
    return made


def _loss(given: Any) -> Any:
    """Return a loss that nobody else holds.

    Raises:
        InputError: it has something to be trained.
    """
    loss = address.loss(given) if isinstance(given, str) else given
    if not isinstance(loss, nn.Module):
        return loss
    if any(p.requires_grad for p in loss.parameters()):
        raise InputError(
            f"expected a loss with nothing to train, got {type(loss).__name__} with "
            "parameters of its own, which no optimiser of a trial holds; let a model "
            "that holds it return the loss, or freeze it: loss.requires_grad_(False)"
        )
    return copy.deepcopy(loss)


def _optimizer(make: Any, model: nn.Module) -> Any:
    """Return what optimises this model.

    Raises:
        InputError: it is that of another model.
    """
    if isinstance(make, str):
        made = address.optimizer(make, model)
    elif callable(make):
        made = make(model.parameters() if address.wants_parameters(make) else model)
    else:
        made = make
    groups = [group for one in each(made) for group in one.param_groups]
    theirs = {id(p) for group in groups for p in group["params"]}
    if theirs.isdisjoint(map(id, model.parameters())):
        raise InputError(
            "expected a function of a model that makes its optimiser, got "
            f"{type(made).__name__} of other parameters; pass for example "
            "lambda model: torch.optim.SGD(model.parameters(), lr=0.1)"
        )
    return made


Curve = list[tuple[int, float, float | None]]


def _train(plan: Plan, ready: Start, given: Print) -> tuple[Curve, int | None]:
    """Return the curve, and the step at which a loss was not finite.

    Raises:
        InputError: the data end, or the optimiser wants more than gradients.
    """
    optimizers = list(each(ready.optimizer))
    if any(isinstance(one, torch.optim.LBFGS) for one in optimizers):
        raise InputError(
            "expected an optimiser that takes one step from one gradient, got LBFGS, "
            "which calls the loss itself; pass another"
        )
    metric = _metric(plan.metric, ready.loss)
    endless = given.batches(ready.train.endless())
    feed = batches(ready.model, endless, loss=ready.loss, limit=plan.steps)
    curve: Curve = []
    for step in range(plan.steps + 1):
        batch = next(feed, None) if step else None
        if step and batch is None:
            raise InputError(
                f"expected data that can be looped over again, but they ended after "
                f"{step - 1} of {plan.steps} batches; pass a loader, a list of "
                "batches, or a function that makes one"
            )
        if batch and not _step(ready, optimizers, batch):
            return curve, step
        if step % plan.every == 0 or step == plan.steps:
            loss, score = _validate(ready, metric, given)
            given.mark()
            if not isfinite(loss):
                return curve, step
            curve.append((step, loss, score))
    return curve, None


def _step(ready: Start, optimizers: list[Any], batch: Batch) -> bool:
    """Take one step; return False, and take none, where the loss is not finite."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    _, value = _forward(ready, batch)
    if not isfinite(float(value.detach())):
        return False
    value.backward()
    for optimizer in optimizers:
        optimizer.step()
    return True


def _forward(ready: Start, batch: Batch) -> tuple[Any, Tensor]:
    """Return output and loss.

    Raises:
        InputError: there is no loss.
    """
    output = ready.model(*batch.args, **batch.kwargs)
    value = loss_of(output, batch, ready.loss)
    if value is None:
        raise InputError("expected a loss, got none in the model's output; pass loss=")
    return output, value


def _validate(
    ready: Start, metric: Metric | None, given: Print
) -> tuple[float, float | None]:
    """Return the mean loss and metric over the validation samples, in eval mode.

    Loss and metric are taken to be means over the samples of a batch.
    """
    modes = [(module, module.training) for module in ready.model.modules()]
    loss, score, samples = 0.0, 0.0, 0
    ready.model.eval()
    try:
        with same_random(), torch.no_grad():
            for batch in batches(
                ready.model,
                given.batches(ready.valid),
                loss=ready.loss,
                limit=1 << 62,
            ):
                output, value = _forward(ready, batch)
                loss += batch.samples * float(value)
                if metric is not None:
                    score += batch.samples * float(metric(output, batch.targets))
                samples += batch.samples
    finally:
        for module, mode in modes:
            module.training = mode
    return loss / samples, None if metric is None else score / samples


def _metric(given: Any, loss: Any) -> Metric | None:
    """Return the metric given, or accuracy where the loss says what is right."""
    if given is not None:
        return address.find(given) if isinstance(given, str) else given
    if isinstance(loss, nn.CrossEntropyLoss) or loss is nn.functional.cross_entropy:
        return partial(_accuracy, ignored=getattr(loss, "ignore_index", -100))
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return _accuracy_of_logits
    return None


def _accuracy(outputs: Tensor, targets: Tensor, ignored: int) -> float:
    if outputs.shape == targets.shape:
        return float((outputs.argmax(1) == targets.argmax(1)).double().mean())
    counted = targets != ignored
    return float((outputs.argmax(1) == targets)[counted].double().mean())


def _accuracy_of_logits(outputs: Tensor, targets: Tensor) -> float:
    return float(((outputs > 0) == (targets > 0.5)).double().mean())
