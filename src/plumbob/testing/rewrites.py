"""The laws of a rewrite."""

import copy
import inspect
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.certificate import Certificate
from plumbob.errors import InputError
from plumbob.mending.certify import certify
from plumbob.rule import sections
from plumbob.survey.batches import Batch, batches
from plumbob.survey.graph import export, tensors
from plumbob.survey.guard import untouched
from plumbob.survey.seen import seen
from plumbob.testing.cards import hold
from plumbob.types import Safety

REWRITE_SECTIONS = ("", "Why", "Exact when", "Args", "Raises", "Example", "References")


def check_rewrite(
    act: Callable[..., None],
    arguments: Mapping[str, Any],
    *,
    model: nn.Module,
    data: Any,
    writes: str | None,
    again: Mapping[str, Any] | None = None,
    claim: Safety = Safety.EXACT,
) -> Certificate:
    """Hold a rewrite to the laws of the house, on one model.

    Its docstring says when it is exact; its certificate holds and it rounds no worse;
    done again it changes nothing; a copy's rewriting leaves the model alone; the state
    dict goes into another model to which the same was done; the result can be pickled
    and exported; a parameter that is shared, frozen, parametrised, quantised or
    distributed is refused; and where any of its operations fails, or it refuses, the
    model is left as it was.

    Args:
        act: the rewrite, called as `act(model, **arguments)`, in place.
        arguments: of the act.
        model: one that it applies to; its class must be one that can be pickled.
        data: what the model is fed.
        writes: the name of a parameter that the act writes to or removes, None if it
            only adds some.
        again: arguments for the second time, where they are other ones.
        claim: EXACT or EVAL_ONLY.

    Returns:
        The certificate.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    name = getattr(act, "__name__", type(act).__name__)
    parts = sections(inspect.getdoc(act))
    absent = [part for part in REWRITE_SECTIONS if not parts.get(part)]
    hold(not absent, f"the docstring of {name} has no section {absent}")
    before = seen(model)
    proof = certify(model, partial(act, **arguments), data, claim=claim)
    hold(proof.holds and proof.precise, f"{name} changes the function: {proof}")
    batch = next(batches(model, data, limit=1))
    done = _acted(act, model, arguments)
    values = _outputs(done, batch)
    _second_time(act, name, done, arguments if again is None else again)
    other = _acted(act, model, arguments)
    with torch.no_grad():
        for t in (*other.parameters(), *other.buffers()):
            t.copy_(torch.zeros_like(t))
    other.load_state_dict(done.state_dict())
    copies = {
        "its state dict": other,
        "its pickle": pickle.loads(pickle.dumps(done)),
        "its copy": copy.deepcopy(done),
    }
    for what, twin in copies.items():
        same = [
            torch.equal(*pair)
            for pair in zip(_outputs(twin, batch), values, strict=True)
        ]
        hold(all(same), f"after {name} {what} gives another function")
    was, now = (
        export(m, batch.args, batch.kwargs, training=False) for m in (model, done)
    )
    hold(was.on_this_path or not now.on_this_path, f"after {name} export fails")
    for what, spoil in SPOILS.items() if writes else ():
        spoiled = copy.deepcopy(model)
        spoil(spoiled, str(writes))
        _refuses(act, name, what, spoiled, arguments)
    _never_half(act, name, model, arguments)
    hold(seen(model) == before, f"{name} on a copy changed the model itself")
    return proof


def _acted(
    act: Callable[..., None], model: nn.Module, arguments: Mapping[str, Any]
) -> nn.Module:
    model = copy.deepcopy(model)
    act(model, **arguments)
    return model


def _outputs(model: nn.Module, batch: Batch) -> list[Tensor]:
    with untouched(model), torch.no_grad():
        return list(tensors(model.eval()(*batch.args, **batch.kwargs)))


def _second_time(
    act: Callable[..., None], name: str, done: nn.Module, arguments: Mapping[str, Any]
) -> None:
    before = seen(done)
    act(done, **arguments)
    hold(seen(done) == before, f"{name} changes something the second time")


def _refuses(
    act: Callable[..., None],
    name: str,
    what: str,
    model: nn.Module,
    arguments: Mapping[str, Any],
) -> None:
    before = seen(model)
    refused = False
    try:
        act(model, **arguments)
    except InputError:
        refused = True
    hold(refused, f"{name} does not refuse a parameter that is {what}")
    hold(seen(model) == before, f"{name} refused, but changed the model")


class _Sharded(Tensor):
    """Stands for a distributed tensor."""


def _replace(model: nn.Module, name: str, value: Callable[[Tensor], Tensor]) -> None:
    owner, _, last = name.rpartition(".")
    old = model.get_parameter(name).detach()
    new = nn.Parameter(value(old), requires_grad=False)
    model.get_submodule(owner).register_parameter(last, new)


def _share(model: nn.Module, name: str) -> None:
    model.register_parameter("plumbob_other", model.get_parameter(name))


def _freeze(model: nn.Module, name: str) -> None:
    model.get_parameter(name).requires_grad_(False)


def _parametrise(model: nn.Module, name: str) -> None:
    owner, _, last = name.rpartition(".")
    module = model.get_submodule(owner)
    parametrize.register_parametrization(module, last, nn.Identity())


def _quantise(model: nn.Module, name: str) -> None:
    _replace(model, name, lambda t: t.to(torch.int8))


def _distribute(model: nn.Module, name: str) -> None:
    _replace(model, name, lambda t: t.as_subclass(_Sharded))
    model.get_parameter(name).requires_grad_(True)


SPOILS: dict[str, Callable[[nn.Module, str], None]] = {
    "shared": _share,
    "frozen": _freeze,
    "parametrised": _parametrise,
    "quantised": _quantise,
    "distributed": _distribute,
}


class _BrokenError(Exception):
    pass


class _Breaks(TorchDispatchMode):
    """Lets so many operations pass, then one fail."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.left = passes

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.left -= 1
        if self.left == -1:
            raise _BrokenError
        return func(*args, **(kwargs or {}))


def _never_half(
    act: Callable[..., None], name: str, model: nn.Module, arguments: Mapping[str, Any]
) -> None:
    for passes in range(1000):
        spoiled = copy.deepcopy(model)
        before = seen(spoiled)
        try:
            with _Breaks(passes):
                act(spoiled, **arguments)
        except _BrokenError:
            hold(
                seen(spoiled) == before,
                f"{name} leaves the model half changed when operation {passes} fails",
            )
        else:
            return
    hold(False, f"{name} takes more than 1000 operations, so this cannot be tried")
