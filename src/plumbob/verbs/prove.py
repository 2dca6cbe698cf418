"""`prove`: a certificate for anyone's rewrite of anyone's model."""

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from plumbob.errors import InputError, one_line

if TYPE_CHECKING:
    from torch import nn

    from plumbob.certificate import Certificate
    from plumbob.types import Safety


def prove(
    before: "nn.Module",
    after: "nn.Module | Callable[[nn.Module], Any]",
    data: Any,
    *,
    claim: "Safety | str | None" = None,
    probes: int = 3,
    seed: int = 0,
) -> "Certificate":
    """Test whether two models are the same function, and in training too.

    Why:
        A rewrite that someone else's tool made comes without a proof. Two numbers tell
        a wrong one from rounding: the distance in float64, where a mistake stands out,
        and that in the model's own dtype beside its own rounding.

    Args:
        before: the model as it was.
        after: the model as it is now, or a function that is given a copy of the
            model before and changes it or returns another. A function is tried at
            random parameters too, in float64; a model only with those that it has.
        data: what the models are fed: a batch, a tuple, a mapping or a loader.
        claim: "exact" (in training and in inference) or "eval-only"; by default the
            first of them that holds.
        probes: comparisons: the first of the given batch, the others of random inputs.
        seed: of what is drawn.

    Returns:
        The certificate; `holds` and `precise` are the verdicts.

    Raises:
        InputError: the claim is none of sameness, a model cannot run on the data, or
            the function fails.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> before = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
        >>> after = torch.nn.utils.fusion.fuse_linear_bn_eval(before[0], before[1])
        >>> proof = plumbob.prove(before, after, torch.randn(8, 3))
        >>> proof.claim.value, proof.holds, proof.random_parameters
        ('eval-only', True, False)
    """
    from torch import nn

    from plumbob.mending.certify import compare
    from plumbob.types import Safety

    if not isinstance(before, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"expected the model before as a module, got {type(before).__name__}"
        )
    made = isinstance(after, nn.Module)
    if not made and not callable(after):
        raise InputError(
            "expected the model after, or a function of the model before, got "
            f"{type(after).__name__}"
        )
    tried = partial(
        compare,
        before,
        partial(_as_it_is, after) if made else partial(_rewritten, after),
        data,
        probes=probes,
        seed=seed,
        random_parameters=not made,
    )
    if claim is not None:
        return tried(claim=_claim(claim))
    try:
        proof = tried(claim=Safety.EXACT)
    except InputError:  # what runs in inference alone may still be the same there
        return tried(claim=Safety.EVAL_ONLY)
    return proof if proof.holds else tried(claim=Safety.EVAL_ONLY)


def _claim(claim: "Safety | str") -> "Safety":
    from plumbob.types import Safety

    try:
        return Safety(claim)
    except ValueError as error:
        raise InputError(
            f"expected the claim exact or eval-only, got {claim!r}"
        ) from error


def _as_it_is(after: "nn.Module", before: "nn.Module") -> "nn.Module":
    return copy.deepcopy(after)


def _rewritten(act: Callable[["nn.Module"], Any], model: "nn.Module") -> "nn.Module":
    """Return what a function makes of a copy: what it returns, or what it changed.

    Raises:
        InputError: the function raised.
    """
    from torch import nn

    model = copy.deepcopy(model)
    try:
        found = act(model)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        dtype = next((p.dtype for p in model.parameters()), "no parameters")
        raise InputError(
            f"the rewrite failed on a copy of {type(model).__name__} ({dtype}): "
            f"{one_line(error)}; let it take the model in any floating-point dtype, "
            "and change it or return another"
        ) from error
    return found if isinstance(found, nn.Module) else model
