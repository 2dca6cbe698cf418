"""The graph of a model: every operation between its parameters and its outputs."""

import gc
import logging
import operator
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, fields, is_dataclass, replace
from io import StringIO
from typing import Any, cast

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from plumbob.errors import InputError
from plumbob.survey.guard import same_random, untouched
from plumbob.survey.record import record_graph
from plumbob.survey.traced import Traced

NORMS = (
    nn.modules.batchnorm._NormBase,  # pyright: ignore[reportPrivateUsage]
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A functional aten graph; each node carries its (fake) value in meta["val"].

    `parameters` and `buffers` map placeholders to names in the model; constant
    tensors that are not registered count as buffers. Tied weights, also under two
    placeholders, have one name. `inputs` are the placeholders of the user's tensors,
    `outputs` the nodes whose values the model returns (the graph's output node also
    lists updated buffers), `states` those that stay in buffers for later calls, but for
    the statistics of norms. `given` holds the values of the inputs that are no
    floating-point numbers: indices, lengths, masks; `constants` those of tensors that
    are registered nowhere. `traced` is what was exported.
    """

    module: fx.GraphModule
    parameters: Mapping[str, str]
    buffers: Mapping[str, str]
    inputs: frozenset[str]
    outputs: frozenset[str]
    training: bool
    on_this_path: bool = False
    given: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    constants: Mapping[str, torch.Tensor] = field(
        default_factory=dict[str, torch.Tensor]
    )
    traced: Traced | None = None
    states: frozenset[str] = frozenset()


def canonical(model: nn.Module) -> dict[str, str]:
    """Map the name of every parameter to the first name of the same values.

    The storage is compared, not its address, which is 0 on the meta device; another's
    transpose, which has the same memory, is a parameter of its own. Empty parameters,
    which have no memory, are left out.
    """
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if isinstance(p, nn.parameter.UninitializedParameter) or not p.numel():
            continue
        storage = p.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
        place = (storage, p.storage_offset(), p.shape, p.stride())
        names[name] = first.setdefault(place, name)
    return names


def export(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    training: bool,
    other: Graph | None = None,
) -> Graph:
    """Trace a model by `torch.export`, or by running it once where that fails.

    The model, its modes, the random state and torch's switches are left as they
    were. A model on the meta device is traced without any arithmetic. With
    `training`, modes are kept as found in a model that is in training; else the
    model is put in training but for norms that are wholly frozen. Where that makes no
    difference to the graph of the `other` mode, it has the same nodes.

    Raises:
        InputError: the model itself cannot run on this input.
    """
    if any(p.is_meta for p in model.parameters()):
        args, kwargs = pytree.tree_map_only(
            torch.Tensor, lambda t: t.to("meta"), (args, dict(kwargs))
        )
    with untouched(model), _modes(model, training), _alone(), _uncollected():
        wrapper = _Leaves(model)
        try:
            with _quiet(), _Constants():
                program = torch.export.export(wrapper, args, dict(kwargs), strict=False)
                traced = Traced.of(program)
                if other is not None and other.traced and traced.same(other.traced):
                    return replace(other, training=training)
                program = program.run_decompositions({})
        # Export fails with nearly every class of exception. What is the model's own
        # fault comes up again in the recorded run.
        except Exception:
            return record(model, args, kwargs, training=training)
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            program.graph.erase_node(node)
    signature = program.graph_signature
    names = canonical(model)
    return Graph(
        module=program.graph_module,
        parameters={
            placeholder: names[own]
            for placeholder, name in signature.inputs_to_parameters.items()
            if (own := name.removeprefix("model.")) in names
        },
        buffers={
            placeholder: name.removeprefix("model.")
            for placeholder, name in (
                *signature.inputs_to_buffers.items(),
                *signature.inputs_to_lifted_tensor_constants.items(),
            )
        },
        inputs=frozenset(map(str, signature.user_inputs)),
        outputs=frozenset(map(str, signature.user_outputs)),
        training=training,
        given=_given(signature.user_inputs, pytree.tree_leaves((args, dict(kwargs)))),
        constants={
            placeholder: constant.detach().clone()
            for placeholder, name in signature.inputs_to_lifted_tensor_constants.items()
            if isinstance(constant := program.constants.get(name), torch.Tensor)
        },
        traced=traced,
        states=frozenset(_states(program)),
    )


def _states(program: torch.export.ExportedProgram) -> Iterator[str]:
    """Yield the nodes that update buffers, but for those of batch norms."""
    updates = program.graph_signature.buffers_to_mutate
    for node in program.graph.nodes:
        by = str(node.args[0].target) if node.target is operator.getitem else ""
        if node.name in updates and "batch_norm" not in by:
            yield node.name


def record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    training: bool,
) -> Graph:
    """Trace a model by running it once: the graph holds for this path only.

    Raises:
        InputError: the model itself cannot run on this input.
    """
    every = dict(model.named_parameters(remove_duplicate=False))
    names = set(canonical(model).values())
    leaves = pytree.tree_leaves((args, dict(kwargs)))
    with untouched(model), _modes(model, training), _alone():
        module, parameters, buffers, inputs, outputs = record_graph(
            model, args, kwargs, {n: every[n] for n in sorted(names)}, tensors
        )
    return Graph(
        module=module,
        parameters=parameters,
        buffers=buffers,
        inputs=frozenset(inputs),
        outputs=frozenset(outputs),
        training=training,
        on_this_path=True,
        given=_given(inputs, filter(torch.is_tensor, leaves)),
    )


def _given(names: Iterable[Any], values: Iterable[Any]) -> dict[str, torch.Tensor]:
    """Return the inputs that are tensors but of no floating-point numbers."""
    return {
        str(name): value.detach().clone()
        for name, value in zip(names, values, strict=True)
        if isinstance(value, torch.Tensor) and not value.dtype.is_floating_point
    }


class _Leaves(nn.Module):
    """Returns only the tensors of the output: caches cannot be exported."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        return tuple(tensors(self.model(*args, **kwargs)))


def inner(model: Any) -> Any:
    """Return the model that `torch.compile` wraps, or the model itself."""
    return getattr(model, "_orig_mod", model)


def tensors(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested mappings, sequences and dataclasses."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in cast(Mapping[Any, Any], output).values():
            yield from tensors(part)
    elif isinstance(output, (list, tuple)):
        for part in cast(list[Any], output):
            yield from tensors(part)
    elif is_dataclass(output):
        for part in fields(output):
            yield from tensors(getattr(output, part.name))


@contextmanager
def _modes(model: nn.Module, training: bool) -> Generator[None, None, None]:
    """Put every module in the mode to trace, and back."""
    found = {module: module.training for module in model.modules()}
    try:
        _switch(model, training, found.values())
        yield
    finally:
        for module, mode in found.items():
            module.training = mode


def _switch(model: nn.Module, training: bool, found: Iterable[bool]) -> None:
    try:
        if not training and any(found):
            model.eval()
        elif training and not model.training:
            model.train()
            for module in model.modules():
                mine = list(module.parameters(recurse=False))
                if isinstance(module, NORMS) and mine:
                    module.train(any(p.requires_grad for p in mine))
    except NotImplementedError as error:  # a graph that was exported in one mode
        raise InputError(
            f"expected {type(model).__name__} to run in "
            f"{'training' if training else 'evaluation'}, but it refuses: {error}"
        ) from error


@contextmanager
def _alone() -> Generator[None, None, None]:
    """Switch off the attention fast path, which hides a whole layer in one node."""
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with same_random():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Constants(TorchFunctionMode):
    """Keeps the values of constants that a model on the meta device makes there."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        device = given.get("device")
        if func is torch.tensor and device is not None:
            device = torch.device(device)
            if device.type == "meta":
                return func(*args, **given | {"device": "cpu"}).to(device)
        return func(*args, **given)


@contextmanager
def _uncollected() -> Generator[None, None, None]:
    """Put off garbage collection, which takes a third of the time of an export."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep what export says about itself off the user's screen.

    What the model itself warns of, it says again when it runs.
    """
    level = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
