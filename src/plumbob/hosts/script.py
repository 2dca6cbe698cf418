"""A script's own training loop: what it trains is watched, without a change in it.

Optimisers tell by their making which parameters are trained; the modules that hold
these are what is watched. `backward` is called on the loss, whoever calls it, and
losses that torch computes in evaluation mode without gradients are validation losses.
"""

import gc
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer

from plumbob.errors import one_line
from plumbob.survey.graph import inner
from plumbob.watching.watch import Watch

Loss = Callable[[Any, Any], Any]
Begin = Callable[[Mapping[str, nn.Module], list[Any]], Watch]

OURS = r"Using `torch\.compile\(module\)` when there are global hooks"
LOSSES = (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
)


class Listener:
    """What has been trained so far: a watch for each set of optimisers made together.

    An error of our own ends the listening, is kept in `broken`, and costs the script
    nothing.
    """

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.watches: dict[str, Watch] = {}  # by the names of the models
        self.closed: list[Watch] = []
        self.waiting: list[Any] = []
        self.pending: Tensor | None = None
        self.stepping = False  # an optimiser calls the loop's closure
        self.held: list[Tensor] = []
        self.unscaled: dict[int, tuple[Tensor, Tensor]] = {}
        self.asked: list[tuple[Tensor, Loss, Any, Any]] = []
        self.hook: Any = None
        self.broken: str | None = None

    def made(self, optimizer: Any) -> None:
        """Note a new optimiser; its models are looked for when one is called."""
        if type(optimizer).__module__.startswith("plumbob."):  # a host of its own
            return
        # before its first step, which may call the models for the first time
        optimizer.register_step_pre_hook(partial(self._steps, now=True))
        optimizer.register_step_post_hook(partial(self._steps, now=False))
        self.waiting.append(optimizer)
        if self.hook is None:
            self.hook = register_module_forward_pre_hook(self._called)

    def _steps(self, *_: Any, now: bool) -> None:
        self.stepping = now

    def _called(self, *_: Any) -> None:
        if torch.is_grad_enabled():  # a summary may run the model before it trains
            self.safely(self._start)

    def safely(self, act: Callable[..., None], *given: Any) -> None:
        """Do it, until something of ours has failed."""
        if self.broken is not None:
            return
        try:
            act(*given)
        except Exception as error:
            self.broken = one_line(error)

    def _start(self) -> None:
        """Begin a watch of the models that the new optimisers train."""
        optimizers, self.waiting = self.waiting, []
        self.hook.remove()
        self.hook = None
        roots = _roots(optimizers)
        if not roots:
            return
        named = dict(zip(_names(roots), map(inner, roots), strict=True))
        key = ", ".join(named)
        if before := self.watches.pop(key, None):  # the next fold, or the next trial
            self._close(before)
        watch = self.watches[key] = self.begin(named, optimizers)
        watch.ledger.told(None)  # what is heard here stands for what it hears
        watch.ledger.held_told()
        watch.feed.aims = True
        for optimizer in optimizers:
            name = watch.ledger.name(optimizer)
            optimizer.register_step_post_hook(self._after(watch, name))

    def _after(self, watch: Watch, name: str) -> Callable[..., None]:
        def note() -> None:
            if self.pending is not None:
                watch.note(self.pending, name)
                self.pending = None

        return lambda *_: self.safely(note)

    def backward(self, tensors: Any) -> None:
        """Note the loss that gradients are taken of; several before a step add up.

        Within a step, which may ask its closure often, the first is the step's.
        """
        self.safely(self._backward, tensors)

    def _backward(self, tensors: Any) -> None:
        self._validated()
        for t in [tensors] if isinstance(tensors, Tensor) else tensors:
            if t.numel() != 1 or not t.is_floating_point():
                continue
            _, value = self.unscaled.pop(id(t), (t, t))
            self._judged(value)
            value = value.detach().reshape(())
            before = self.pending
            if before is not None and self.stepping:
                continue
            if before is not None and before.device == value.device:
                value = value + before
            self.pending = value
        self.unscaled.clear()
        self.asked.clear()

    def _judged(self, value: Tensor) -> None:
        """Tell the watch which function the loss is, where it is one of torch's."""
        for found, loss, outputs, targets in self.asked:
            if found is value:
                for watch in self.watches.values():
                    watch.criterion.loss = watch.criterion.loss or loss
                    watch.feed.aim(outputs, targets)

    def scaled(self, before: Any, after: Any) -> None:
        """Note what a scaled loss was before."""
        if isinstance(before, Tensor) and isinstance(after, Tensor):
            self.unscaled[id(after)] = (after, before)

    def computed(self, loss: Any, args: Any, kwargs: Any, value: Any) -> None:
        """Note a loss of torch's: the one of a step, or one on held-out data."""
        self.safely(self._computed, loss, args, kwargs, value)

    def _computed(self, loss: Any, args: Any, kwargs: Any, value: Any) -> None:
        if isinstance(value, Tensor) and value.requires_grad and len(args) > 1:
            more = args[2:]
            asked = partial(_asked, loss, more, kwargs)
            self.asked = [*self.asked[-3:], (value, asked, args[0], args[1])]
            return
        models = [watch.model for watch in self.watches.values()]
        tested = models and not any(model.training for model in models)
        tested = tested and not torch.is_grad_enabled()
        if tested and isinstance(value, Tensor) and value.numel() == 1:
            self.held.append(value.detach().float().reshape(()))

    def _validated(self) -> None:
        """Tell the watches of the mean of the losses on held-out data."""
        if self.held:
            for watch in self.watches.values():
                watch.validate(torch.stack(self.held).mean())
            self.held.clear()

    def close(self, error: BaseException | None = None) -> None:
        """End all watches; `error` is what ended the script."""
        if self.hook is not None:
            self.hook.remove()
        self.safely(self._validated)
        for watch in self.watches.values():
            self._close(watch, error)
        self.watches.clear()

    def _close(self, watch: Watch, error: BaseException | None = None) -> None:
        ended(watch, error)
        self.closed.append(watch)


def ended(watch: Watch, error: BaseException | None = None) -> None:
    """End a watch as its `with` would, so that its record says what was raised."""
    watch.__exit__(None if error is None else type(error), error, None)


@contextmanager
def listening(begin: Begin) -> Generator[Listener, None, None]:
    """Watch whatever is trained meanwhile; `begin` makes a watch of named models."""
    listener = Listener(begin)
    with ExitStack() as stack:
        patch = stack.enter_context
        patch(warnings.catch_warnings())
        warnings.filterwarnings("ignore", OURS)
        patch(_patched(Optimizer, "__init__", _making(listener)))
        patch(_patched(torch.autograd, "backward", _backward(listener)))
        patch(_patched(torch.amp.GradScaler, "scale", _scaling(listener)))
        for name in LOSSES:
            patch(_patched(functional, name, _computing(listener)))
        try:
            yield listener
        finally:
            listener.close()


@contextmanager
def _patched(
    owner: Any, name: str, wrapper: Callable[[Any], Any]
) -> Generator[None, None, None]:
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(wrapper(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)


class WhenImported:
    """Among the finders of `sys.meta_path`: acts once when a module was imported."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name, self.act = name, act

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the others' spec, whose loader acts when the module is there."""
        if name != self.name:
            return None
        sys.meta_path.remove(self)  # pyright: ignore[reportArgumentType]
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            self.act()

        spec.loader.exec_module = exec_module
        return spec


@contextmanager
def imported(name: str, act: Callable[[], None]) -> Generator[None, None, None]:
    """Act once if a module is imported meanwhile."""
    finder: Any = WhenImported(name, act)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def _asked(loss: Any, more: Any, kwargs: Any, outputs: Any, targets: Any) -> Any:
    return loss(outputs, targets, *more, **kwargs)


def _making(listener: Listener) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def made(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            listener.safely(listener.made, self)

        return made

    return wrapper


def _backward(listener: Listener) -> Callable[[Any], Any]:
    inside = torch._C._current_graph_task_id  # pyright: ignore[reportPrivateUsage]

    def wrapper(original: Any) -> Any:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if inside() == -1:  # else checkpointing computes something again
                listener.backward(tensors)
            return original(tensors, *args, **kwargs)

        return backward

    return wrapper


def _scaling(listener: Listener) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def scale(self: Any, outputs: Any) -> Any:
            found = original(self, outputs)
            listener.scaled(outputs, found)
            return found

        return scale

    return wrapper


def _computing(listener: Listener) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def loss(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            if not torch.compiler.is_compiling():
                listener.computed(original, args, kwargs, value)
            return value

        return loss

    return wrapper


def _roots(optimizers: Iterable[Any]) -> list[nn.Module]:
    """Return the outermost modules that hold parameters of the optimisers."""
    held = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}
    # isinstance would wake proxies that look like something else
    modules = [m for m in gc.get_objects() if issubclass(type(m), nn.Module)]
    with_them = [m for m in modules if any(id(p) in held for p in m.parameters())]
    parts = {id(part) for m in with_them for part in m.children()}
    return [m for m in with_them if id(m) not in parts]


def _names(roots: list[nn.Module]) -> list[str]:
    """Return what the script calls its models, else the names of their classes."""
    called: dict[int, str] = {}
    for name, value in _bound():
        if any(value is root for root in roots):
            called[id(value)] = name.lstrip("_")
    names: list[str] = []
    for root in roots:
        name = called.get(id(root), type(inner(root)).__name__.lower())
        same = sum(n == name or n.startswith(f"{name}-") for n in names)
        names.append(f"{name}-{same + 1}" if same else name)
    return names


def _bound() -> Iterator[tuple[str, Any]]:
    """Yield the names of the script's frames and of their objects, outermost last."""
    frame: Any = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        owner = str(frame.f_globals.get("__name__")).partition(".")[0]
        if owner not in {"plumbob", "torch"}:
            local = dict(frame.f_locals)
            yield from dict(getattr(local.pop("self", None), "__dict__", {})).items()
            yield from local.items()
        frame = frame.f_back
