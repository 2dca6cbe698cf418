"""The proof tool: two models put side by side, in float64 and as they are."""

import copy
import random
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.certificate import Certificate
from plumbob.errors import InputError, one_line
from plumbob.mending.differences import differences, side_effects_of
from plumbob.mending.distances import distance, moving
from plumbob.mending.sizes import resized
from plumbob.survey.batches import Batch, batches
from plumbob.survey.graph import NORMS, tensors
from plumbob.survey.guard import untouched
from plumbob.survey.replay import EPS, LEAST_BOUND, bound_of
from plumbob.types import Safety

Outputs = list[Tensor]


def certify(
    model: nn.Module,
    act: Callable[[nn.Module], object],
    data: Any,
    *,
    claim: Safety = Safety.EXACT,
    steps: Sequence[str] = (),
    kept: Collection[str] = (),
    probes: int = 3,
    seed: int = 0,
    other: Batch | None = None,
    origin: nn.Module | None = None,
) -> Certificate:
    """Test that a rewrite leaves a model the same function; the model is untouched.

    The rewrite is done to copies, which are run beside the model as it is in training
    (for EXACT) and then in inference, so that what training leaves behind in running
    statistics is compared too, with the same random numbers for dropout.

    Why:
        A proof covers the graph and says nothing of a mistake in carrying it out; a
        comparison in the model's own dtype cannot tell a mistake from rounding. In
        float64, also where the model itself casts to float32, rounding is so small
        that a wrong theorem stands out by orders of magnitude. A theorem holds for all
        parameters, so it is tried at random ones too: a bias that is still 0 can be
        dropped anywhere.

    Args:
        model: the model as it is.
        act: changes a model in place; what it returns is not looked at.
        data: what the model is fed: a tensor, a tuple, a mapping or a loader.
        claim: EXACT or EVAL_ONLY.
        steps: the proof in words, to be kept with the numbers.
        kept: parameters whose values the theorem is about: they stay as given. A unit
            that is dead by its weights is so only with these.
        probes: comparisons: the first of the given batch and parameters, the others
            of random ones, the last at other sizes where the model takes them. Inputs
            that are no floating-point numbers, or not finite, stay as given.
        seed: of the random values and of what the model draws.
        other: the batch of other sizes, where it is known.
        origin: the model before all rewrites, where this is not the first: in
            inference the rounding of what is stored is measured from there, so that
            it does not add up unseen.

    Raises:
        InputError: the claim is none of sameness, the model cannot run on the data,
            or the act refuses.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        >>> def drop(model):
        ...     model[0].bias = None
        >>> proof = certify(model, drop, torch.randn(8, 3))
        >>> proof.holds, proof.removed, model[0].bias is None
        (False, ('0.bias',), False)

    References:
        Schwartz (1980), Fast probabilistic algorithms for verification of polynomial
        identities.
    """
    return compare(
        model,
        partial(_rewritten, act=act),
        data,
        claim=claim,
        steps=steps,
        kept=kept,
        probes=probes,
        seed=seed,
        other=other,
        origin=origin,
    )


def compare(
    model: nn.Module,
    rewrite: Callable[[nn.Module], nn.Module],
    data: Any,
    *,
    claim: Safety,
    steps: Sequence[str] = (),
    kept: Collection[str] = (),
    probes: int = 3,
    seed: int = 0,
    random_parameters: bool = True,
    other: Batch | None = None,
    origin: nn.Module | None = None,
) -> Certificate:
    """Test that what a rewrite makes of a model is the same function; see `certify`.

    Args:
        model: the model before; it is untouched.
        rewrite: returns the model after, and leaves the one that it is given as it is;
            of the same dtype, where it follows the parameters.
        data: what the models are fed.
        claim: EXACT or EVAL_ONLY.
        steps: the proof in words.
        kept: parameters that stay as given.
        probes: comparisons.
        seed: of what is drawn.
        random_parameters: whether the rewrite follows the parameters it is given; if
            not, they stay, and integers among the inputs are drawn anew from those
            given, too, so that there is more than one comparison.
        other: the batch of other sizes, where it is known.
        origin: the model before all rewrites, where this is not the first.

    Raises:
        InputError: the claim is none of sameness, a model cannot run on the data, or
            the rewrite refuses.
    """
    if claim not in {Safety.EXACT, Safety.EVAL_ONLY}:
        raise InputError(
            f"expected a claim that the function stays the same (exact or eval-only), "
            f"got {claim.value}; there is nothing to certify"
        )
    given = data if isinstance(data, Batch) else next(batches(model, data, limit=1))
    given = _each(given, Tensor.detach)
    modes = [True, False] if claim is Safety.EXACT else [False]
    if other is None:
        other = resized(model, given, training=modes[0])
    dtype = coarsest(p.dtype for p in model.parameters())
    ulp = torch.finfo(dtype).eps
    tried, identity, noise, rounding, stored = 0, 0.0, 0.0, 0.0, 0.0
    with untouched(model), torch.no_grad():
        mine, after = copy.deepcopy(model), rewrite(model)
        still = copy.deepcopy(after)  # not trained, as the origin is not
        removed, added, changed, frozen = differences(mine, after)
        side_effects = tuple(side_effects_of(mine, after))
        for number in range(probes):
            torch.manual_seed(seed + number)
            wide = _wide(model)
            batch = _cast(other if 0 < number == probes - 1 else given)
            if number:
                batch = drawn(batch, integers=not random_parameters)
            if number and random_parameters:
                _randomise(wide, kept)
            new = rewrite(wide)
            jittered = _jittered(wide, EPS if random_parameters else ulp)
            if not random_parameters:
                new = _wide(new)
            shows = True
            for training in modes:
                with _double():
                    truth = _run(wide, batch, training, seed)
                    shows &= any(map(_shows, truth))
                    off = _run(jittered, batch, training, seed)
                    moved = moving(truth, off)
                    one_ulp = distance(off, truth, moved)
                    noise = max(noise, one_ulp)
                    made = _run(new, batch, training, seed)
                    identity = max(identity, distance(made, truth, moved))
                if not number:
                    first, last = mine, after
                    if origin is not None and not training:
                        first, last, wide = origin, still, _wide(origin)
                        with _double():
                            truth = _run(wide, batch, training, seed)
                    own, made = (_run(m, given, training, seed) for m in (first, last))
                    own = distance(own, truth, moved, everywhere=False)
                    # a model in float64 is its own truth; to round as it is computed
                    # is, to first order, to compute with other parameters
                    own = max(own, one_ulp if dtype is torch.float64 else 0.0)
                    rounding = max(rounding, own)
                    made = distance(made, truth, moved, everywhere=False)
                    stored = max(stored, made)
            tried += shows
    bound = bound_of(noise)
    if not random_parameters:  # those after are rounded to be stored: a few ulps each
        bound = max(LEAST_BOUND, 8 * noise)
    return Certificate(
        claim=claim,
        steps=tuple(steps),
        probes=tried,
        seed=seed,
        identity_ulps=identity / EPS,
        bound=bound / EPS,
        stored_ulps=stored / ulp,
        rounding=rounding / ulp,
        dtype=str(dtype).removeprefix("torch."),
        removed=removed,
        added=added,
        changed=changed,
        frozen=frozen,
        side_effects=side_effects,
        random_parameters=random_parameters,
        random_inputs=any(
            _drawable(t, integers=not random_parameters)
            for t in tensors((given.args, dict(given.kwargs)))
        ),
    )


def coarsest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """Return the coarsest floating-point dtype, float32 where there is none."""
    kinds = {kind for kind in dtypes if kind.is_floating_point}
    return max(kinds or {torch.float32}, key=lambda kind: torch.finfo(kind).eps)


def _wide(model: nn.Module) -> nn.Module:
    """Return a copy in float64, with tensors that are plain attributes."""
    wide = copy.deepcopy(model)
    if any(p.device.type == "mps" for p in wide.parameters()):
        wide.cpu()  # mps has no float64
    wide.double()
    for t in (*wide.parameters(), *wide.buffers()):
        if t.is_complex():
            t.data = t.data.to(torch.complex128)
    for module in wide.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    return wide


def _rewritten(model: nn.Module, act: Callable[[nn.Module], object]) -> nn.Module:
    model = copy.deepcopy(model)
    act(model)
    return model


def _randomise(model: nn.Module, kept: Collection[str]) -> None:
    """Move every parameter by about half its size, from 0 to about a half."""
    for name, p in model.named_parameters():
        if p.is_floating_point() and p.numel() and name not in kept:
            size = p.square().mean().sqrt()
            p.add_(torch.randn_like(p), alpha=0.5 * (float(size) or 1.0))


def _jittered(model: nn.Module, ulp: float) -> nn.Module:
    """Return a copy with every parameter one unit in the last place up or down."""
    model = copy.deepcopy(model)
    for p in model.parameters():
        if p.is_floating_point():
            p.mul_(1 + ulp * (2.0 * torch.randint_like(p, 2) - 1))
    return model


def _cast(batch: Batch) -> Batch:
    def cast(t: Tensor) -> Tensor:
        t = t.cpu() if t.device.type == "mps" else t
        wide = t.to(torch.complex128) if t.is_complex() else t
        return t.double() if t.is_floating_point() else wide

    return _each(batch, cast)


def _drawable(t: Tensor, *, integers: bool) -> bool:
    """Return whether an input is drawn anew: there must be what to draw it from."""
    if t.is_floating_point():
        return bool(t.numel()) and bool(t.isfinite().all())
    return integers and t.numel() > 1 and not t.is_complex()


def drawn(batch: Batch, *, integers: bool = False) -> Batch:
    """Draw inputs anew: numbers with the mean and spread of those given, or of them."""

    def draw(t: Tensor) -> Tensor:
        if not _drawable(t, integers=integers):
            return t
        if not t.is_floating_point():
            return t.flatten()[torch.randint(t.numel(), t.shape, device=t.device)]
        return t.mean() + t.std(correction=0) * torch.randn_like(t)

    return _each(batch, draw)


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    call = (batch.args, dict(batch.kwargs))
    args, kwargs = pytree.tree_map_only(Tensor, change, call)
    return Batch(args=args, kwargs=kwargs, samples=batch.samples)


class _Doubled(TorchDispatchMode):
    """Computes in float64 also what a model itself casts to float32 or less."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        args, options = pytree.tree_map_only(
            torch.dtype,
            lambda kind: torch.float64 if kind.is_floating_point else kind,
            (args, dict(kwargs or {})),
        )
        return func(*args, **options)


@contextmanager
def _double() -> Generator[None, None, None]:
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with _Doubled():
            yield
    finally:
        torch.set_default_dtype(default)


def _shows(output: Tensor) -> bool:
    """Return whether a small change would be seen."""
    return output.is_floating_point() and bool(output.isfinite().any())


def _run(model: nn.Module, batch: Batch, training: bool, seed: int) -> Outputs:
    """Return the outputs of a copy, floating-point numbers in float64.

    In training, modes stay as found in a model that is in training; else norms that
    are wholly frozen stay out of it.

    Raises:
        InputError: the model fails.
    """
    modes = {module: module.training for module in model.modules()}
    if not training:
        model.eval()
    elif not model.training:
        model.train()
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            if isinstance(module, NORMS) and own:
                module.train(any(p.requires_grad for p in own))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    args, kwargs = copy.deepcopy((batch.args, dict(batch.kwargs)))
    try:
        found = list(tensors(model(*args, **kwargs)))
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{type(model).__name__} failed on {batch.shapes()} in "
            f"{'training' if training else 'inference'}: {one_line(error)}; the models "
            "before and after must run on the batch, in the modes that are claimed"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    found = [torch.view_as_real(t) if t.is_complex() else t for t in found]
    return [t.cpu().double() if t.is_floating_point() else t.cpu() for t in found]
