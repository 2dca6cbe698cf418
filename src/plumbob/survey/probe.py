"""Batches run through a model: what every affine map saw and gave, and gradients."""

import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.errors import InputError, one_line
from plumbob.survey.batches import Batch
from plumbob.survey.calls import Calls
from plumbob.survey.gradients import Gradients
from plumbob.survey.graph import tensors
from plumbob.survey.guard import untouched
from plumbob.survey.maps import Maps
from plumbob.survey.outcome import Record, heads
from plumbob.survey.own_loss import OwnLoss
from plumbob.survey.tallies import Tallies
from plumbob.types import Gradient, Reading, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was measured; `sites` are those that no trace had found.

    `loss` is what the loss returned, averaged over the batches by their samples: the
    mean per sample only where the loss is a mean. `outputs`, `targets` and
    `net_inputs`, the z of each of `heads` by its name, are of the same batches, the
    first ones up to RECORD elements, joined leaf by leaf. `own_loss` is the one that
    the model takes itself of its logits and the labels, then the targets, if known.
    `broken` is the first batch whose output or loss is not finite.
    `mean_gradients` are those of all trainable parameters that the loss reaches.
    """

    readings: Mapping[str, Reading]
    gradients: Mapping[str, Gradient]
    mean_gradients: Mapping[str, Tensor]
    loss: float | None
    net_inputs: Mapping[str, Tensor]
    outputs: Any
    targets: Any
    own_loss: Callable[..., Any] | None
    samples: int
    sites: tuple[Site, ...]
    unseen: Mapping[str, str]
    broken: Batch | None = None


def probe(
    model: nn.Module,
    batches: Iterable[Batch],
    sites: Iterable[Site],
    *,
    loss: Callable[..., Any] | None = None,
    keep: int = 0,
    gradients: bool = True,
    only: Set[str] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Probed:
    """Measure each site's x and z, and the loss's gradients, in the mode as it is.

    The statistics are of the forward pass alone: what checkpointing computes again
    in the backward pass is not counted. Buffers are copies, so that batch norm counts
    no batch. Without a loss, neither given nor in the output, there are no gradients.
    `keep` is the number of rows of z kept per site, `only` the names of the sites to
    measure where not all are.

    Raises:
        InputError: the model or the loss fails on a batch, or cannot be measured.
    """
    _refuse(model)
    sites = tuple(sites)
    tallies = Tallies(model, sites, keep, only)
    gradient, calls = Gradients(model), Calls(model)
    tallies.heads = {site.name: [] for site in heads(sites)}
    record, own = Record(), OwnLoss()
    samples, total, losses = 0, 0.0, 0
    broken: Batch | None = None
    with untouched(model), in_the_open(model, gradients):
        run = _Run(model)
        for number, batch in enumerate(batches, 1):
            tallies.next_batch(batch.samples)
            maps = Maps(model, tallies.see_input, tallies.see_output)
            maps.gains, maps.vectors = tallies.gains, tallies.vectors
            maps.reads, maps.on_sum = calls.reads, tallies.see_sum
            copies = {f"model.{n}": b.clone() for n, b in model.named_buffers()}
            torch.clear_autocast_cache()  # casts made before would not be recognised
            call = (batch, maps, loss, gradient if gradients else None)
            try:
                with calls.followed():
                    output, value = torch.func.functional_call(run, copies, call)
            except InputError:
                raise
            except Exception as error:
                place = f"batch {number} ({batch.shapes()})"
                raise InputError(_broke(run.doing, place, error)) from error
            aims = batch.targets
            if loss is None:
                aims = own.targets(output, batch, value)
            record.add(output, aims, tallies.heads)
            samples += batch.samples
            if value is not None:
                total += value * batch.samples
                losses += batch.samples
            if broken is None and not _finite(output, value):
                broken = batch
            if on_batch:
                on_batch(number)
            del output
    known = gradient.samples > 0 and not gradient.hidden
    readings, silent = tallies.readings(gradient if known else None, calls.strays)
    outputs, targets, net_inputs = record.value()
    if gradient.hidden:
        silent["gradients"] = "reentrant checkpointing hides them: use_reentrant=False"
    return Probed(
        readings=readings,
        gradients=gradient.facts() if known else {},
        mean_gradients=gradient.mean if known else {},
        loss=total / losses if losses else None,
        net_inputs=net_inputs,
        outputs=outputs,
        targets=targets,
        own_loss=own.found(),
        samples=samples,
        sites=tuple(tallies.extra),
        unseen=silent,
        broken=broken,
    )


def _finite(output: Any, value: float | None) -> bool:
    parts = (t for t in tensors(output) if t.is_floating_point())
    return all(map(bool, (t.isfinite().all() for t in parts))) and isfinite(value or 0)


class _Run(nn.Module):
    """One batch forward and backward, while the model's buffers are replaced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.doing = ""

    def forward(
        self,
        batch: Batch,
        maps: Maps,
        loss: Callable[..., Any] | None,
        gradient: Gradients | None,
    ) -> tuple[Any, float | None]:
        self.doing = type(self.model).__name__
        args, kwargs = _copies((batch.args, dict(batch.kwargs)))
        with maps:
            output = self.model(*args, **kwargs)
        maps.forget()
        self.doing = "the loss"
        given = output
        if loss is not None:  # it may work in place
            output = pytree.tree_map_only(Tensor, _copy, output)
            batch = replace(batch, targets=_copies(batch.targets))
        value = loss_of(given, batch, loss)
        if value is None:
            return output, None
        if gradient is not None:
            self.doing = "the backward pass of the loss"
            gradient.add(value, batch.samples)
        return output, float(value.detach())


def _copies(inputs: Any) -> Any:
    """Copy the inputs, since a first layer may work in place.

    One tensor given twice stays one: attention asks whether its key is its query.
    """
    copies: dict[int, Tensor] = {}

    def copy(t: Tensor) -> Tensor:
        if id(t) not in copies:
            copies[id(t)] = t.detach().clone().requires_grad_(t.requires_grad)
        return copies[id(t)]

    return pytree.tree_map_only(Tensor, copy, inputs)


def _copy(t: Tensor) -> Tensor:
    return t.detach().clone()


def loss_of(
    output: Any, batch: Batch, loss: Callable[..., Any] | None
) -> Tensor | None:
    """Return the loss, given or in the output; None where there is none.

    Raises:
        InputError: it is not one real number.
    """
    if loss is not None:
        value = loss(output, batch.targets)
    elif isinstance(output, Mapping):
        value = output.get("loss")
    else:
        value = getattr(output, "loss", None)
    if value is None and loss is None:
        return None
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"expected one real number from the loss, got {got} for "
            f"{batch.shapes()}; reduce it to its mean"
        )
    return value.reshape(())


@contextmanager
def in_the_open(model: nn.Module, gradients: bool) -> Generator[None, None, None]:
    """Switch off what hides maps in fused kernels; `untouched` switches it on again.

    oneDNN's LSTM and cuDNN's recurrent layers are such; both stay on for models
    without them, since convolutions take twice as long otherwise.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    modules = list(model.modules())
    if any(isinstance(m, nn.LSTM) for m in modules):
        torch.backends.mkldnn.enabled = False
    if any(isinstance(m, nn.RNNBase) for m in modules):
        torch.backends.cudnn.enabled = False
    eager = nullcontext()
    if "torch._dynamo" in sys.modules:
        eager = torch.compiler.set_stance("force_eager")
    with eager, torch.inference_mode(False), torch.set_grad_enabled(gradients):
        yield


def _refuse(model: nn.Module) -> None:
    """Say what cannot be measured at all.

    Raises:
        InputError: a parameter is complex, quantised, sparse or without values.
    """
    for name, p in model.named_parameters():
        said = (
            ("complex numbers", p.is_complex()),
            ("quantised values", p.is_quantized),
            ("no values (device meta)", p.is_meta),
            (f"layout {p.layout}", p.layout != torch.strided),
        )
        for what, bad in said:
            if bad:
                raise InputError(
                    f"expected real, dense parameters to run a batch, got {what} in "
                    f"{name} {list(p.shape)}; check the weights without data, or "
                    "pass a model of ordinary values"
                )


def _broke(what: str, place: str, error: Exception) -> str:
    """Say where the user's code failed, and on which batch."""
    if "more than 1 value per channel when training" in str(error):
        return (
            "batch norm in training mode needs two values per channel, got one in "
            f"{place}; use larger batches (drop_last=True), or model.eval()"
        )
    return (
        f"{what} failed on {place}: {one_line(error)}; pass what the training loop "
        "feeds, or try it without plumbob"
    )
