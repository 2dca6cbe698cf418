"""The user's loss is left as found, whatever it holds."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import CodeType, FunctionType, MethodType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from plumbob.survey.guard import attributes_of, untouched

_MANY = 1000  # things that are looked at behind one loss
_PLAIN = (type, int, float, complex, str, bytes, type(None))

Given = ParamSpec("Given")
Result = TypeVar("Result")


def spares_loss(measure: Callable[Given, Result]) -> Callable[Given, Result]:
    """Leave the argument `loss` of a function of a model as found."""

    @wraps(measure)
    def spared(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        model = args[0] if args else kwargs.get("model")
        with loss_untouched(kwargs.get("loss"), model):
            return measure(*args, **kwargs)

    return spared


@contextmanager
def loss_untouched(loss: Any, model: Any) -> Generator[None, None, None]:
    """Put back what a loss holds, on leaving: its modules, tensors and attributes.

    Of a module that is all that `untouched` restores. Of any other loss it is so for
    the modules and tensors that it reaches by a closure, a default argument,
    `functools.partial`, the object that it is a method of, the attributes of an object
    that is called, lists, tuples and dicts of these, and the global names in its code.
    The attributes of such objects are put back too. The model is left out, since all
    that runs it restores it.

    Not seen, and so left as the loss leaves it, are what lies within objects of other
    classes, a number that a closure counts (`nonlocal`), a list that a closure appends
    to, what the loss imports or a library's function keeps, and what compiled code
    holds; nor what comes after the first thousand things.
    """
    modules, tensors, objects = _reached(loss)
    own = set[int]()
    if isinstance(model, nn.Module):
        parts = (model.modules(), model.parameters(), model.buffers())
        own = {id(part) for each in parts for part in each}
    holder = nn.ModuleList(m for m in modules if id(m) not in own)
    for number, tensor in enumerate(t for t in tensors if id(t) not in own):
        vars(holder)[f"tensor {number}"] = tensor
    put_back = [attributes_of(one) for one in objects]
    with untouched(holder):
        try:
            yield
        finally:
            for part in put_back:
                part()


def _reached(loss: Any) -> tuple[list[nn.Module], list[Tensor], list[Any]]:
    """Return the modules, the tensors and the other objects behind a loss."""
    modules: list[nn.Module] = []
    tensors: list[Tensor] = []
    objects: list[Any] = []
    ahead, seen = deque([loss]), dict[int, Any]()
    while ahead and len(seen) < _MANY:
        thing = ahead.popleft()
        if isinstance(thing, _PLAIN) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, nn.Module):
            modules.append(thing)
        elif isinstance(thing, Tensor):
            if thing.layout is torch.strided and not is_lazy(thing):
                tensors.append(thing)
        elif isinstance(thing, MethodType):
            ahead.append(thing.__func__)
            owner = thing.__self__
            if isinstance(owner, nn.Module) or not _has_attributes(owner):
                ahead.append(owner)
            elif id(owner) not in seen:
                seen[id(owner)] = owner
                objects.append(owner)
                ahead += vars(owner).values()
        elif callable(thing) and _has_attributes(thing):
            objects.append(thing)
            ahead += vars(thing).values()
            ahead.append(type(thing).__call__)
        else:
            ahead += _behind(thing)
    return modules, tensors, objects


def _has_attributes(thing: Any) -> bool:
    """Say whether it is an object of a class of the user's."""
    kinds = (type, FunctionType, MethodType, partial)
    library = type(thing).__module__.partition(".")[0] == torch.__name__
    return hasattr(thing, "__dict__") and not isinstance(thing, kinds) and not library


def _behind(thing: Any) -> Iterator[Any]:
    """Yield what a function or a container holds."""
    if isinstance(thing, partial):
        yield thing.func
        yield from thing.args
        yield from thing.keywords.values()
    elif isinstance(thing, FunctionType):
        yield from thing.__defaults__ or ()
        yield from (thing.__kwdefaults__ or {}).values()
        yield from _closed_over(thing)
        yield from _globals(thing)
    elif isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        yield from thing


def _closed_over(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that has no value yet
            continue


def _globals(function: FunctionType) -> Iterator[Any]:
    """Yield what its code calls by a global name, but for other files' functions."""
    if (function.__module__ or "").partition(".")[0] == torch.__name__:
        return
    for name in _names(function.__code__):
        found = function.__globals__.get(name)
        own = getattr(found, "__globals__", function.__globals__)
        if own is function.__globals__:
            yield found


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names in code, and in that of functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
