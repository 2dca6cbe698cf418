"""Finds the operation at which values stop being finite, where some do."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.survey.batches import Batch
from plumbob.survey.graph import tensors
from plumbob.survey.guard import untouched
from plumbob.survey.parts import Parts, storage
from plumbob.survey.probe import in_the_open, loss_of
from plumbob.types import Break

MADE_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
LOGARITHMS = {"log": 0, "log2": 0, "log10": 0, "log1p": -1, "xlogy": 0}
DIVISIONS = {"div", "reciprocal", "true_divide", "rsqrt", "remainder", "fmod"}
EXPONENTIALS = {"exp", "exp2", "expm1", "sinh", "cosh"}
SOFTMAXES = {"_softmax", "_log_softmax", "softmax", "log_softmax", "logsumexp"}
BOUNDED = {"acos", "asin", "acosh", "atanh", "erfinv", "logit"}


def first_break(
    model: nn.Module, batch: Batch, loss: Callable[..., Any] | None
) -> Break | None:
    """Run a batch again, and return the origin of what is not finite; None if all is.

    An infinity that was put there (a mask of attention) and that goes no further is
    none. The model is left as found.
    """
    finder = _Finder(model)
    with untouched(model), in_the_open(model, gradients=True), finder.following():
        batch = finder.given(batch)
        with finder:
            output = model(*batch.args, **batch.kwargs)
            finder.inside = False
            value = loss_of(output, batch, loss)
        spoilt = "loss" if value is not None and _bad(value) else "output"
        ends = [value] if spoilt == "loss" else list(tensors(output))
        for end in ends:
            if end is not None and (found := finder.origin(end)) and _bad(end):
                return found.told(spoilt)
    return finder.first.told("inside") if finder.first else None


class _Origin:
    """One operation, by whose doing values are not finite."""

    def __init__(self, cause: str, **facts: Any) -> None:
        self.cause, self.facts = cause, facts

    @property
    def meant(self) -> bool:
        """Whether it is an infinity that was written into the model."""
        return self.cause == "mask"

    def told(self, reaches: str) -> Break:
        cause = "constant" if self.meant else self.cause
        return Break(cause=cause, reaches=reaches, **self.facts)


class _Finder(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parts = Parts(model)
        self.names = {id(m): name for name, m in model.named_modules()}
        self.stack: list[str | None] = []
        self.inside = True
        self.origins: dict[int, _Origin] = {}
        self.first: _Origin | None = None
        self.alive: list[Tensor] = []  # an address must not be given again

    @contextmanager
    def following(self) -> Generator[None, None, None]:
        """Follow which module is at work."""

        def enter(module: nn.Module, args: Any) -> None:
            self.stack.append(self.names.get(id(module)))

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.stack.pop()

        held = (
            hooks.register_module_forward_pre_hook(enter),
            hooks.register_module_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for hook in held:
                hook.remove()

    def given(self, batch: Batch) -> Batch:
        """Return copies of what the user gives, with its own origins noted."""

        def copied(part: Any, cause: str) -> Any:
            def copy(t: Tensor) -> Tensor:
                t = t.detach().clone().requires_grad_(t.requires_grad)
                if _bad(t):
                    mask = not (t.isnan() | (t == torch.inf)).any()
                    meant = "mask" if mask else cause
                    self._note(t, self._origin(meant, "", [t], t))
                return t

            return pytree.tree_map_only(Tensor, copy, part)

        args, kwargs = copied((batch.args, dict(batch.kwargs)), "input")
        targets = copied(batch.targets, "target")
        return Batch(args=args, kwargs=kwargs, targets=targets, samples=batch.samples)

    def origin(self, t: Tensor) -> _Origin | None:
        """Return the origin of what is not finite in a tensor."""
        return self.origins.get(storage(t))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__.rstrip("_")
        given = list(_floats([args, kwargs]))
        before = [t.clone() for t in given] if func._schema.is_mutable else given
        out = func(*args, **kwargs)
        if name not in MADE_EMPTY:
            self._see(name, given, before, out, (args, kwargs))
        return out

    def _see(
        self, name: str, given: list[Tensor], before: list[Tensor], out: Any, call: Any
    ) -> None:
        results = list(_floats(out))
        bad = [t for t in results if _bad(t)]
        old = {storage(t) for t in given}
        for t in results:
            if storage(t) not in old:  # a view of what is broken may be whole
                self.origins.pop(storage(t), None)
        if not bad:
            return
        found = self._inherited(given, before, nan=any(t.isnan().any() for t in bad))
        if found is None:
            written = any(
                isinstance(v, float) and v in {torch.inf, -torch.inf}
                for v in pytree.tree_leaves(call)
            )
            meant = (written or not given) and not any(t.isnan().any() for t in bad)
            cause = "mask" if meant else _cause(name, before, bad[0])
            found = self._origin(cause, name, before, bad[0], given)
        for t in bad:
            self._note(t, found)

    def _inherited(
        self, given: list[Tensor], before: list[Tensor], *, nan: bool
    ) -> _Origin | None:
        """Return the origin among what came in; NaN made of a mask's is a new one."""
        came: list[_Origin] = []
        for t, was in zip(given, before, strict=True):
            if not _bad(was):
                continue
            if (found := self.origin(t)) is None:
                part = self.parts.find(t)
                mask = part is None and not was.isnan().any()
                cause = "weight" if part else "mask" if mask else "constant"
                found = self._origin(cause, "", [was], was, [t])
                self._note(t, found)
            came.append(found)
        own = [found for found in came if not found.meant]
        if own:
            return own[0]
        return None if nan or not came else came[0]

    def _note(self, t: Tensor, origin: _Origin) -> None:
        self.origins[storage(t)] = origin
        self.alive.append(t)
        if not origin.meant:
            self.first = self.first or origin

    def _origin(
        self,
        cause: str,
        name: str,
        read: list[Tensor],
        out: Tensor,
        given: list[Tensor] | None = None,
    ) -> _Origin:
        parts = [part for t in given or () if (part := self.parts.find(t))]
        parts.sort(key=lambda part: -part.parameter.ndim)  # a weight before its bias
        whole = [t[t.isfinite()] for t in read]
        ends = [float(e) for t in whole if t.numel() for e in (t.min(), t.max())]
        return _Origin(
            cause,
            operation=name,
            place=(self.stack[-1] if self.stack else "") if self.inside else None,
            parameter=parts[0].name if parts else None,
            dtype=str(out.dtype).removeprefix("torch."),
            low=min(ends, default=0.0),
            high=max(ends, default=0.0),
            limit=float(torch.finfo(out.dtype).max),
            values=int((~out.isfinite()).sum()),
            nans=int(out.isnan().sum()),
            of=out.numel(),
        )


def _cause(name: str, read: list[Tensor], out: Tensor) -> str:
    """Say by which rule of arithmetic finite numbers (or a mask) gave `out`."""
    first = read[0] if read else out
    last = read[-1] if read else out
    nan = bool(out.isnan().any())
    if name in LOGARITHMS:
        below = (last < LOGARITHMS[name]).any()
        return "log-of-negative" if nan and below else "log-of-zero"
    if name in {"sqrt", "rsqrt", "pow"} and nan and (first < 0).any():
        return "root-of-negative"
    if name in DIVISIONS | {"pow"} and (last == 0).any():
        return "zero-by-zero" if nan else "division-by-zero"
    if name in EXPONENTIALS:
        return "exponential"
    if name in SOFTMAXES and nan:
        return "masked-row"
    if name in {"mean", "var", "std", "var_mean"} and nan:
        return "one-value" if first.numel() else "nothing"
    if name in BOUNDED:
        return "outside-domain"
    return "other" if nan else "overflow"


def _bad(t: Tensor) -> bool:
    return t.is_floating_point() and not bool(t.detach().isfinite().all())


def _floats(values: Any) -> Iterator[Tensor]:
    for t in pytree.tree_leaves(values):
        strided = isinstance(t, Tensor) and t.layout == torch.strided
        if strided and t.is_floating_point() and not t.is_meta:
            yield t
