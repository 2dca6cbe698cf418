"""From what a user calls data to the batches that a training loop would feed."""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree
from torch.utils.data import Dataset, IterableDataset

from plumbob.errors import InputError, one_line
from plumbob.survey.graph import tensors
from plumbob.survey.guard import untouched

LIMIT = 32
TO_DO = (
    "pass a tensor (one input), a dict (keyword inputs), a tuple (positional inputs) "
    "or an iterable of what the training loop feeds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The arguments of one call of the model, its targets, and how many inputs."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    targets: Any = None
    samples: int

    def few(self, samples: int) -> "Batch":
        """Return the first inputs alone, or all where the axis of samples is unclear.

        It is clear where every tensor is dense and has as many rows as there are
        inputs.
        """
        call = (self.args, dict(self.kwargs))
        leaves = [t for t in pytree.tree_leaves(call) if isinstance(t, torch.Tensor)]
        if any(t.layout != torch.strided or t.is_nested for t in leaves):
            return self
        if any(t.ndim == 0 or len(t) != self.samples for t in leaves):
            return self
        args, kwargs = pytree.tree_map_only(torch.Tensor, lambda t: t[:samples], call)
        return Batch(args=args, kwargs=kwargs, samples=min(samples, self.samples))

    def shapes(self) -> str:
        """Say what the batch holds, for an error message."""
        parts = [_say(part) for part in self.args]
        parts += [f"{name}={_say(part)}" for name, part in self.kwargs.items()]
        aim = "" if self.targets is None else f", targets {_say(self.targets)}"
        return ", ".join(parts) + aim


def batches(
    model: nn.Module,
    data: Any,
    *,
    targets: Any = None,
    loss: Callable[..., Any] | None = None,
    limit: int | None = None,
) -> Generator[Batch, None, None]:
    """Yield at most `limit` batches of what the model is fed; move none of it.

    A tensor is one input, a mapping keyword inputs, a tuple positional inputs; any
    other iterable is a loader of such items. The last of several positional parts is
    the targets if there is a loss, or else if the model's forward cannot take it; so
    is the one key of a mapping that forward has no parameter for. A part that
    might be taken by an optional parameter is tried out once.

    LIMIT is 32 batches: of 32 to 128 samples each they are 1,000 to 4,000, so a mean
    is known to 2-3 % of the standard deviation, and a unit that never fires there
    fires on less than 0.3 % of the inputs (95 %). The generators of a loader are put
    back to where they were, and so is the model by `untouched`; an iterator is used
    up. Samples are counted along the first axis of the first tensor, or along its
    second where only that has the length of the targets (batch_first=False); for
    packed sequences it is the number of sequences.

    Raises:
        InputError: the data are empty, on another device, or cannot be fed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"expected a limit of at least 1 batch, got {limit}")
    device = _device(model)
    takes = _Takes(model)
    if isinstance(data, (torch.Tensor, tuple, Mapping)):
        items: Iterable[Any] = [data]
        where = "the data"
    else:
        if targets is not None:
            raise InputError(
                "expected targets= only beside a single batch, got them beside a "
                "loader; let the loader yield (inputs, targets)"
            )
        items = loader_of(data)
        where = "batch {} of the loader"
    number = 0
    with _same_generators(data):
        for number, item in enumerate(_guarded(items), 1):
            place = where.format(number)
            args, kwargs, aim = _split(item, takes, loss, targets, place)
            _check_devices((args, kwargs, aim), device, place)
            samples = _samples((args, kwargs), aim, place)
            yield Batch(args=args, kwargs=kwargs, targets=aim, samples=samples)
            if number == (limit or LIMIT):
                break
    if not number:
        raise InputError(
            f"expected at least one batch, got none from {type(data).__name__}; an "
            "iterator that was used up before yields nothing: pass the loader itself"
        )


def loader_of(data: Any) -> Iterable[Any]:
    """Return the data if they can be looped over for batches, or say why not.

    Raises:
        InputError: they cannot.
    """
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise InputError(
            f"expected batches, got {type(data).__name__}, a dataset of single "
            "samples; wrap it: DataLoader(dataset, batch_size=64)"
        )
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise InputError(f"cannot feed {_say(data)} to the model; {TO_DO}")
    if hasattr(data, "__array__"):
        raise InputError(
            f"expected tensors, got {type(data).__name__}; pass torch.from_numpy(data)"
        )
    return cast(Iterable[Any], data)


def _guarded(items: Iterable[Any]) -> Iterator[Any]:
    """Loop over a loader; what breaks in it is the user's.

    Raises:
        InputError: the loader raised.
    """
    try:
        yield from items
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the loader broke: {one_line(error)}; loop over it once without plumbob "
            "to mend it"
        ) from error


def generators(data: Any) -> list[torch.Generator]:
    """Return the generators that a loader, its samplers or its dataset own."""
    own = getattr(data, "batch_sampler", None)
    owners = [data, own, getattr(own, "sampler", None)]
    owners += [getattr(data, name, None) for name in ("sampler", "dataset")]
    owned = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in owned if type(g) is torch.Generator}.values())


@contextmanager
def _same_generators(data: Any) -> Generator[None, None, None]:
    """Put the generators that a DataLoader owns back where they were."""
    found = [(g, g.get_state()) for g in generators(data)]
    try:
        yield
    finally:
        for generator, state in found:
            generator.set_state(state)


Split = tuple[tuple[Any, ...], dict[str, Any], Any]


def _split(
    item: Any,
    takes: "_Takes",
    loss: Callable[..., Any] | None,
    targets: Any,
    place: str,
) -> Split:
    """Split an item into positional inputs, keyword inputs and targets.

    Raises:
        InputError: it holds no tensor, or no targets for the loss.
    """
    if isinstance(item, Mapping):
        return _split_mapping(cast(Mapping[str, Any], item), takes, targets, place)
    parts = [item]
    if isinstance(item, (list, tuple)) and not isinstance(item, PackedSequence):
        parts = cast(list[Any], list(item))  # pyright: ignore[reportUnknownArgumentType]
    if not parts or not any(True for part in parts for _ in tensors(part)):
        raise InputError(f"{place} is {_say(item)}, which holds no tensor; {TO_DO}")
    if targets is None and len(parts) > 1:
        nested = len(parts) == 2 and isinstance(parts[0], (list, tuple, Mapping))
        if loss is not None or nested or not takes.fits(tuple(parts)):
            *parts, targets = parts
    if loss is not None and targets is None:
        raise InputError(
            f"expected (inputs, targets) because a loss is given, got {_say(item)} "
            f"in {place}; add the targets, or leave out the loss"
        )
    if len(parts) == 1 and isinstance(parts[0], Mapping):
        return (), dict(cast(Mapping[str, Any], parts[0])), targets
    if len(parts) == 1 and type(parts[0]) in {list, tuple}:
        parts = list(parts[0])
    return tuple(parts), {}, targets


def _split_mapping(
    item: Mapping[str, Any], takes: "_Takes", targets: Any, place: str
) -> Split:
    inputs = dict(item)
    if not any(True for _ in tensors(inputs)):
        raise InputError(f"{place} is {_say(item)}, which holds no tensor; {TO_DO}")
    strange = [name for name in inputs if not takes.keyword(name)]
    if len(strange) == 1 < len(inputs) and targets is None:
        targets = inputs.pop(strange[0])
    elif strange:
        raise InputError(
            f"{place} has the keys {', '.join(map(repr, strange))}, which the model's "
            f"forward({', '.join(takes.names)}) does not take; leave them out"
        )
    return (), inputs, targets


class _Takes:
    """What the model's forward can take."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tried: bool | None = None
        wraps = isinstance(model, nn.DataParallel)  # its own forward takes anything
        try:
            signature = inspect.signature((model.module if wraps else model).forward)
        except ValueError:  # a scripted forward has none
            signature = inspect.signature(_anything)
        parameters = signature.parameters.values()
        self.names = [p.name for p in parameters]
        self.open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.endless = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.slots = [
            p
            for p in parameters
            if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}
        ]

    def keyword(self, name: str) -> bool:
        return self.open or name in self.names

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether forward takes all of `args`: in doubt by trying, the first time.

        A parameter whose default is not None (a flag, a number) takes no tensor.
        """
        slots = self.slots[: len(args)]
        if len(slots) < len(args):
            return self.endless
        defaults = [slot.default for slot in slots]
        if all(default is inspect.Parameter.empty for default in defaults):
            return True
        if defaults[-1] is not None and defaults[-1] is not inspect.Parameter.empty:
            return False
        if self.tried is None:
            try:
                with untouched(self.model), torch.no_grad():
                    self.model(*args)
                self.tried = True
            except Exception:  # whatever forward raises: it does not take them
                self.tried = False
        return self.tried


def _anything(*args: Any, **kwargs: Any) -> None: ...


def _device(model: nn.Module) -> torch.device | None:
    """Return the one device of the model; None if it has no values to run on.

    Raises:
        InputError: there are several.
    """
    devices = {t.device for t in (*model.parameters(), *model.buffers())}
    if any(device.type == "meta" for device in devices):
        return None
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise InputError(
            f"expected a model on one device, got {type(model).__name__} on {names}; "
            "move it: model.to(device)"
        )
    return devices.pop() if devices else None


def _check_devices(parts: Any, device: torch.device | None, place: str) -> None:
    for tensor in tensors(parts):
        if device is not None and tensor.device != device:
            raise InputError(
                f"expected data on {device}, where the model is, got "
                f"{_say(tensor)} on {tensor.device} in {place}; move one of them: "
                f".to({str(device)!r})"
            )


def _samples(inputs: Any, targets: Any, place: str) -> int:
    """Count the independent inputs of a batch.

    Raises:
        InputError: there are none.
    """
    args, kwargs = inputs
    for part in (*args, *kwargs.values()):
        if isinstance(part, PackedSequence):
            return int(part.batch_sizes[0])
    first = next(tensors(inputs))
    lengths = [t.shape[0] for t in tensors(targets) if t.ndim]
    samples = first.shape[0] if first.ndim else 1
    if lengths and lengths[0] != samples and lengths[0] in first.shape[1:2]:
        samples = lengths[0]
    if not samples or not first.numel():
        raise InputError(
            f"expected at least one sample, got {_say(first)} in {place}; leave out "
            "empty batches"
        )
    return samples


def _say(value: Any) -> str:
    """Name a value by its shape, or by its type."""
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}{list(value.shape)}"
    if isinstance(value, Mapping):
        parts = cast(Mapping[str, Any], value).items()
        return "{" + ", ".join(f"{k}: {_say(v)}" for k, v in parts) + "}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_say, cast(list[Any], value))) + ")"
    return type(value).__name__
