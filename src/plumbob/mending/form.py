"""How a mended model is built, told so that a freshly built one can become so."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.errors import InputError, did_you_mean
from plumbob.mending.differences import tensors_of

Plain = bool | int | float | str | None | tuple[int, ...]

# What can stand in a module's place. A form may come from a stranger's file, so it
# names classes from here and can make nothing else.
KINDS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(nn.Identity, nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm),
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        *(nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.GELU, nn.SiLU),
    )
}
# What a module of the same class may say otherwise of itself; nf and nx are the names
# of Hugging Face's Conv1D.
SIZES = (
    *("in_features", "out_features", "in_channels", "out_channels", "num_features"),
    *("num_channels", "num_embeddings", "embedding_dim", "hidden_size", "input_size"),
    *("normalized_shape", "groups", "num_groups", "nf", "nx", "elementwise_affine"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The shape and the dtype of a parameter or buffer."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> "Slot":
        """Return those of a tensor."""
        name = str(tensor.dtype).removeprefix("torch.")
        return cls(shape=tuple(tensor.shape), dtype=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A plain module and what it is made with.

    `was` is the class of the one whose place it takes; where there was none, it goes
    into a `nn.Sequential` behind its neighbour `behind`.
    """

    name: str
    arguments: Mapping[str, Plain]
    was: str = ""
    behind: str = ""

    @classmethod
    def of(cls, module: nn.Module, **place: str) -> "Kind":
        """Return what makes another module like this one."""
        taken = set(signature(type(module)).parameters) - {"device", "dtype"}
        found = {n: getattr(module, n) for n in sorted(taken) if hasattr(module, n)}
        if "bias" in found:
            found["bias"] = isinstance(found["bias"], Tensor)
        found = {name: value for name, value in found.items() if _plain(value)}
        return cls(name=type(module).__name__, arguments=found, **place)

    def build(self) -> nn.Module:
        """Make one on the meta device, where it takes no memory.

        Raises:
            InputError: no such module can be made.
        """
        kind = KINDS.get(self.name)
        if kind is None:
            raise InputError(
                f"expected a module of {', '.join(KINDS)}, got '{self.name}', which "
                f"is not made from a file.{did_you_mean(self.name, KINDS)}"
            )
        try:
            with torch.device("meta"):
                return kind(**dict(self.arguments))
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InputError(
                f"expected arguments of {self.name}, got {dict(self.arguments)}: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What differs in how two models are built, by name; values are not part of it.

    `removed` are of the size before, `added` and `resized` of that after; `sizes` what
    modules say of themselves; `exchanged` modules bring their own parameters.
    """

    removed: Mapping[str, Slot] = field(default_factory=dict[str, Slot])
    added: Mapping[str, Slot] = field(default_factory=dict[str, Slot])
    resized: Mapping[str, Slot] = field(default_factory=dict[str, Slot])
    sizes: Mapping[str, Mapping[str, Plain]] = field(
        default_factory=dict[str, Mapping[str, Plain]]
    )
    exchanged: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    frozen: tuple[str, ...] = ()


def form_of(before: nn.Module, after: nn.Module) -> Form:
    """Return what has to be done to a model built like the first one."""
    was, now = dict(before.named_modules()), dict(after.named_modules())
    exchanged = {
        path: Kind.of(module, was=type(was[path]).__name__)
        if path in was
        else Kind.of(module, behind=_behind(after, path))
        for path, module in now.items()
        if path not in was or type(was[path]) is not type(module)
    }
    sizes = {
        path: said
        for path, module in now.items()
        if path not in exchanged and (said := _said(was[path], module))
    }
    old, new = tensors_of(before), tensors_of(after)
    own = {n: t for n, t in new.items() if n.rpartition(".")[0] not in exchanged}
    return Form(
        removed={n: Slot.of(t) for n, t in old.items() if n not in new},
        added={n: Slot.of(t) for n, t in own.items() if n not in old},
        resized={
            n: Slot.of(t)
            for n, t in own.items()
            if n in old and t.shape != old[n].shape
        },
        sizes=sizes,
        exchanged=exchanged,
        frozen=tuple(
            n
            for n, p in after.named_parameters()
            if not p.requires_grad and (n not in old or old[n].requires_grad)
        ),
    )


def bring(model: nn.Module, form: Form) -> None:
    """Give a model, built as the one before was, the form of the one after, in place.

    What is new lies on the meta device: it has no values and takes no memory.

    Raises:
        InputError: the model is not built so, or the form asks for what is not made.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, kind in form.exchanged.items():
        modules[path] = _exchange(model, modules, path, kind)
    for path, said in form.sizes.items():
        for name, value in said.items():
            _resay(_module(modules, path, model), path, name, value)
    for name, slot in form.removed.items():
        path, _, last = name.rpartition(".")
        if path not in form.exchanged:
            _expect(model, name, slot)
            table, last = _table(modules, name, model)
            table[last] = None
    for name, slot in {**form.added, **form.resized}.items():
        table, last = _table(modules, name, model)
        if (table[last] is None) != (name in form.added):
            raise InputError(
                f"expected {type(model).__name__} to be built "
                f"{'without' if name in form.added else 'with'} '{name}'; "
                f"{BUILD_AS_BEFORE}"
            )
        held = vars(modules[name.rpartition(".")[0]])
        near = [table[last], *held["_parameters"].values()]  # the model's own dtype
        dtype = next((t.dtype for t in near if t is not None), torch.float32)
        new = torch.empty(slot.shape, dtype=dtype, device="meta")
        table[last] = new if table is held["_buffers"] else nn.Parameter(new)
    known = dict(model.named_parameters(remove_duplicate=False))
    for name in form.frozen:
        if name not in known:
            raise InputError(_nothing_called(name, "a parameter", model, known))
        known[name].requires_grad_(False)


BUILD_AS_BEFORE = "build the model as the one that was mended was built"


def unloadable(form: Form, before: nn.Module, after: nn.Module) -> str:
    """Return why a form does not make the one model like the other, "" if it does."""
    tensors: dict[int, Any] = {
        id(t): nn.Parameter(t.detach().to("meta"), requires_grad=t.requires_grad)
        if isinstance(t, nn.Parameter)
        else t.to("meta")
        for t in tensors_of(before).values()
    }
    model = copy.deepcopy(before, tensors)
    try:
        bring(model, form)
    except InputError as error:
        return str(error)
    for what in (_slots, _classes):
        a, b = what(model), what(after)
        if a != b:
            name = next(n for n in (*a, *b) if a.get(n) != b.get(n))
            return f"{name or type(after).__name__} is {b.get(name)}, not {a.get(name)}"
    return ""


def restorable(form: Form) -> Form:
    """Return a form of which all that went was 0, or a gain of 1, and can come back.

    An RMS norm of what is centred is a layer norm; its bias went before.

    Raises:
        InputError: something else was done.
    """
    odd = {
        path: kind
        for path, kind in form.exchanged.items()
        if (kind.was, kind.name) != ("LayerNorm", "RMSNorm")
    }
    resaid = [p for p, said in form.sizes.items() if {*said} - {"elementwise_affine"}]
    if others := [*odd, *form.added, *form.resized, *resaid]:
        raise InputError(
            f"expected parameters that became 0 and went, got others too "
            f"({', '.join(others[:3])}): the full model cannot be had from this file; "
            "mend it with mode='zero', or load without restore"
        )
    return replace(form, exchanged={}, sizes={}, frozen=())


def _slots(model: nn.Module) -> dict[str, Any]:
    return {name: Slot.of(t) for name, t in tensors_of(model).items()}


def _classes(model: nn.Module) -> dict[str, Any]:
    """Return what every module is, in the order of execution where there is one."""
    return {
        path: (
            f"{type(module).__name__}({module.extra_repr()})",
            list(vars(module)["_modules"]),
            len(vars(module)["_forward_pre_hooks"]),
        )
        for path, module in model.named_modules()
    }


def _said(was: nn.Module, now: nn.Module) -> dict[str, Plain]:
    return {
        name: new
        for name in SIZES
        if _plain(old := vars(was).get(name)) and _plain(new := vars(now).get(name))
        if old != new
    }


def _plain(value: Any) -> bool:
    whole = isinstance(value, tuple) and all(type(n) is int for n in value)
    return whole or value is None or isinstance(value, bool | int | float | str)


def _behind(model: nn.Module, path: str) -> str:
    """Return the name of the neighbour before a module."""
    home, _, name = path.rpartition(".")
    names = list(vars(model.get_submodule(home))["_modules"])
    at = names.index(name)
    return names[at - 1] if at else ""


def _exchange(
    model: nn.Module, modules: Mapping[str, nn.Module], path: str, kind: Kind
) -> nn.Module:
    home, _, name = path.rpartition(".")
    parts = vars(_module(modules, home, model))["_modules"]
    old = parts.get(name)
    new = kind.build().train(model.training if old is None else old.training)
    if old is not None and type(old).__name__ == kind.was:
        near = next((p for p in old.parameters() if p.is_floating_point()), None)
        parts[name] = new if near is None else new.to(near.dtype)
    elif old is None and kind.behind in parts and type(modules[home]) is nn.Sequential:
        behind = list(parts).index(kind.behind) + 1
        order = [*parts.items()]
        order.insert(behind, (name, new))
        parts.clear()
        parts.update(order)
    else:
        what = f"a {kind.was}" if kind.was else "a place in a nn.Sequential"
        raise InputError(
            f"expected {what} at '{path}' of {type(model).__name__}, got "
            f"{'none' if old is None else type(old).__name__}; {BUILD_AS_BEFORE}"
        )
    return new


def _resay(module: nn.Module, path: str, name: str, value: Plain) -> None:
    old = vars(module).get(name)
    if name not in SIZES or not isinstance(old, type(value)):
        raise InputError(
            f"expected a {type(module).__name__} with {name} at '{path}', got "
            f"{type(old).__name__} where {type(value).__name__} is to stand; "
            f"{BUILD_AS_BEFORE}"
        )
    setattr(module, name, value)


def _module(modules: Mapping[str, nn.Module], path: str, model: nn.Module) -> nn.Module:
    if path not in modules:
        raise InputError(_nothing_called(path, "a module", model, modules))
    return modules[path]


def _table(
    modules: Mapping[str, nn.Module], name: str, model: nn.Module
) -> tuple[dict[str, Any], str]:
    """Return where a module keeps a parameter or buffer, None among them.

    Raises:
        InputError: the model has no such place.
    """
    path, _, last = name.rpartition(".")
    module = _module(modules, path, model)
    for table in (vars(module)["_parameters"], vars(module)["_buffers"]):
        if last in table:
            return table, last
    known = [f"{path}.{n}".lstrip(".") for n in vars(module)["_parameters"]]
    raise InputError(_nothing_called(name, "a parameter", model, known))


def _expect(model: nn.Module, name: str, slot: Slot) -> None:
    known = tensors_of(model)
    if name not in known:
        raise InputError(_nothing_called(name, "a parameter", model, known))
    if (shape := tuple(known[name].shape)) != slot.shape:
        raise InputError(
            f"expected '{name}' of {type(model).__name__} with shape "
            f"{list(slot.shape)}, got {list(shape)}; {BUILD_AS_BEFORE}"
        )


def _nothing_called(name: str, what: str, model: nn.Module, known: Any) -> str:
    return (
        f"expected {what} '{name}' in {type(model).__name__}, got none; "
        f"{BUILD_AS_BEFORE}.{did_you_mean(name, known)}"
    )
