"""From `net.py:build` or `pkg.module:name` to the object, whatever it is.

Importing a module runs it. The working directory and the file's own folder are on
`sys.path` while it is imported and while its functions are called, as they are when
the file is run as a script, and no longer.
"""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

from plumbob.errors import AddressError, did_you_mean, one_line

# The last ":" before a dotted name, so that C:\net.py:build is cut where it should be.
_FORM = re.compile(r"(?P<place>.+):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)")
_FORMS = "net.py:build or package.module:name"


def is_address(text: str) -> bool:
    """Return whether a text has the form of an address."""
    return _FORM.fullmatch(text) is not None


def find(address: str) -> Any:
    """Return the object at an address, as it is.

    Raises:
        AddressError: it leads nowhere, or its module raised while it was imported.
    """
    if (parts := _FORM.fullmatch(address)) is None:
        raise AddressError(f"Expected an address such as {_FORMS}, got '{address}'.")
    place, path = parts["place"], parts["name"]
    with _importable(place):
        found: Any = _load(place, address)
        for i, name in enumerate(path.split(".")):
            if not hasattr(found, name):
                owner = ".".join([place, *path.split(".")[:i]])
                hint = did_you_mean(name, (n for n in dir(found) if n[0] != "_"))
                raise AddressError(f"'{owner}' has no '{name}'.{hint}")
            found = getattr(found, name)
    return found


def model(address: str) -> Any:
    """Return a model: a module as it is, a class or function called without arguments.

    Raises:
        AddressError: there is none at this address.
    """
    found = _made(find(address), address)
    if not hasattr(found, "named_parameters"):
        raise AddressError(
            f"Expected a torch.nn.Module at '{address}', or a class or function that "
            f"makes one, got {type(found).__name__}."
        )
    return found


def rewrite(address: str) -> Any:
    """Return a model, or a function of one: what takes an argument is that.

    Raises:
        AddressError: there is neither at this address.
    """
    found = find(address)
    makes = inspect.isclass(found) or _is_function(found)
    if makes and not _takes(found, 0) and _takes(found, 1):
        return found
    return model(address)


def data(address: str) -> Any:
    """Return data: an object as it is, a class or function called without arguments.

    Raises:
        AddressError: there is none at this address.
    """
    return _made(find(address), address)


def loss(address: str) -> Callable[..., Any]:
    """Return a loss, called as `loss(outputs, targets)`.

    A class is called without arguments; so is a function that takes none, which
    makes the loss. A function of two arguments is the loss.

    Raises:
        AddressError: there is none at this address.
    """
    found = find(address)
    if inspect.isclass(found) or (_is_function(found) and _takes_nothing(found)):
        found = _made(found, address)
    if not callable(found):
        raise AddressError(
            f"Expected a loss called as loss(outputs, targets) at '{address}', got "
            f"{type(found).__name__}."
        )
    return found


def optimizer(address: str, model: Any) -> Any:
    """Return an optimiser: one as it is, or made by a class or function.

    A function is given the model, or the model's parameters where its first parameter
    is called `params` or `parameters` or annotated as an iterable. So
    `torch.optim:SGD` works as it is.

    Raises:
        AddressError: there is none at this address.
    """
    found = find(address)
    if inspect.isclass(found) or _is_function(found):
        if not _takes(found, 1):
            raise AddressError(
                f"Expected '{address}' to take one argument, the model or its "
                f"parameters, got {_name(found)}{_signature(found) or '()'}."
            )
        given = model.parameters() if wants_parameters(found) else model
        found = _called(found, address, given)
    if not (hasattr(found, "param_groups") or isinstance(found, list | tuple)):
        raise AddressError(
            f"Expected a torch.optim.Optimizer at '{address}', or a function of the "
            f"model that makes one, got {type(found).__name__}."
        )
    return found


def _load(place: str, address: str) -> ModuleType:
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    try:
        return _from_file(Path(place)) if is_file else import_module(place)
    except AddressError:
        raise
    except ModuleNotFoundError as error:
        parents = place.split(".")
        lineage = {".".join(parents[: i + 1]) for i in range(len(parents))}
        if is_file or error.name not in lineage:
            raise _raised(address, error) from error
        raise AddressError(
            f"No module named '{error.name}' is importable from the working directory "
            f"or the environment (address '{address}')."
        ) from error
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        raise _raised(address, error) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.py")))
        raise AddressError(f"There is no file '{path}'.{near}")
    path = path.resolve()
    name = path.stem
    if name in sys.stdlib_module_names or not _is(sys.modules.get(name), path):
        name = f"plumbob_target_{name}"  # the plain name belongs to another module
    if _is(loaded := sys.modules.get(name), path) and loaded is not None:
        return loaded
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AddressError(f"Expected a Python file (.py), got '{path.name}'.")
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is(module: ModuleType | None, path: Path) -> bool:
    return module is None or getattr(module, "__file__", None) == str(path)


@contextmanager
def _importable(place: str) -> Generator[None, None, None]:
    folders = [str(Path.cwd())]
    if place.endswith(".py"):
        folders.insert(0, str(Path(place).resolve().parent))
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


def _made(found: Any, address: str) -> Any:
    if not (inspect.isclass(found) or _is_function(found)):
        return found
    if not _takes(found, 0):
        raise AddressError(
            f"'{address}' is called without arguments, but it is "
            f"{_name(found)}{_signature(found)}: give a function that takes none."
        )
    return _called(found, address)


def _called(found: Callable[..., Any], address: str, *arguments: Any) -> Any:
    with _importable(address.rpartition(":")[0]):
        try:
            return found(*arguments)
        except (Exception, SystemExit) as error:
            raise AddressError(
                f"'{address}' raised {one_line(error)} when it was called."
            ) from error


def _is_function(found: Any) -> bool:
    return inspect.isroutine(found) or isinstance(found, functools.partial)


def _signature(found: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):  # some builtins have none
        return None


def _takes(found: Any, count: int) -> bool:
    if (signature := _signature(found)) is None:
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _takes_nothing(found: Any) -> bool:
    signature = _signature(found)
    return signature is not None and all(
        p.kind is not p.VAR_POSITIONAL and (p.default is not p.empty)
        for p in signature.parameters.values()
        if p.kind is not p.VAR_KEYWORD
    )


def wants_parameters(found: Any) -> bool:
    """Return whether what makes an optimiser is given parameters, not the model."""
    if (signature := _signature(found)) is None or not signature.parameters:
        return False
    first = next(iter(signature.parameters.values()))
    annotation = str(first.annotation)
    return first.name.lower() in {"params", "parameters"} or any(
        word in annotation for word in ("Iterable", "Iterator", "Parameter", "ParamsT")
    )


def _name(found: Any) -> str:
    return getattr(found, "__name__", type(found).__name__)


def _raised(address: str, error: BaseException) -> AddressError:
    return AddressError(
        f"'{address}' could not be imported: its module raised {one_line(error)}."
    )
