"""Parameter groups by what each parameter does, with the reasons."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from torch import nn

from plumbob.design.grouping import Groups, Row, chosen, depths, roles, taken
from plumbob.errors import InputError
from plumbob.survey.batches import batches
from plumbob.survey.graph import Graph, export, inner

DECAYED = {"matrix", "recurrent"}


def groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    bias_lr: float | None = None,
    layer_decay: float = 1.0,
    last: tuple[int, float] | None = None,
    freeze: str = "",
    decay_embeddings: bool = False,
    own: Iterable[Any] = (),
    muon: bool = False,
    data: Any = None,
) -> Groups:
    """Split a model's parameters into groups for an optimiser, and say why.

    Why:
        Weight decay on W limits how fast z varies with x. On a bias, a norm's scale
        or shift, a learned position or token it only pulls towards a value that the
        task does not ask for; a table's row is pulled to 0 on every step on which
        its word does not occur. A parameter is judged by its place in the graph or
        module, never by its name.

    Args:
        model: it may lie on the meta device.
        lr: of the deepest layer; a real one, which torch's schedulers multiply.
        weight_decay: of the matrices of maps.
        bias_lr: lr of the biases of maps, instead of `lr`.
        layer_decay: lr of a layer over lr of the next deeper one.
        last: (k, factor): the k deepest layers get `factor` times their lr.
        freeze: roles (embeddings, biases, norms, scales, matrices, recurrent) and
            parts of paths (`layer.0-7`, `encoder`, `*.query`), separated by commas.
            This sets `requires_grad` to False **in the model**.
        decay_embeddings: whether tables of embeddings are decayed as matrices are.
        own: groups of yours, kept with their settings, first; the rest is split.
        muon: mark hidden matrices of two axes for torch.optim.Muon: `.muon`, `.rest`.
        data: a batch or loader; with it roles and depths come from the graph.

    Returns:
        A list of dicts with params, name, lr and weight_decay; `print` explains it,
        `rows()` lists every parameter.

    Raises:
        InputError: a number is out of range, `freeze` chooses nothing, or a
            parameter stands in two places. Nothing is frozen then.

    Example:
        >>> from torch import nn, optim
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> split = groups(net, lr=0.01, weight_decay=0.1)
        >>> [(group["name"], group["weight_decay"]) for group in split]
        [('decayed', 0.1), ('not decayed', 0.0)]
        >>> optimizer = optim.AdamW(split)

    References:
        Goodfellow, Bengio and Courville (2016), Deep Learning, section 7.1 (biases).
        Clark, Luong, Le and Manning (2020), ELECTRA, appendix (layer-wise decay).
    """
    model = inner(model)
    parameters = dict(model.named_parameters())
    _check(model, parameters, lr, weight_decay, bias_lr, layer_decay)
    names = {id(p): name for name, p in parameters.items()}
    mine = taken(own, names)
    held = {id(p): i for i, group in enumerate(mine) for p in group["params"]}
    graph = None if data is None else _graph(model, data)
    found = roles(model, graph)
    kinds = {name: role for name, (role, _) in found.items()}
    deep, how = depths(model, kinds, graph)
    every = dict(model.named_parameters(remove_duplicate=False))
    aliases = {alias: names[id(p)] for alias, p in every.items()}
    frozen = chosen(freeze, kinds, aliases)
    for name in frozen:
        if id(parameters[name]) in held:
            raise InputError(
                f"expected each parameter in one place, got {name} in your own group "
                f"{held[id(parameters[name])]} and in freeze='{freeze}'; "
                "take it out of one"
            )
    against = _not_for_muon(parameters, kinds, deep) if muon else dict[str, str]()
    layers = max(deep.values()) + 1
    plan = _Plan(
        lr=lr,
        weight_decay=weight_decay,
        bias_lr=bias_lr,
        layer_decay=layer_decay,
        last=_last(last, layers),
        layers=layers,
        decayed=DECAYED | ({"embedding"} if decay_embeddings else set()),
    )
    for number, group in enumerate(mine):
        group.setdefault("name", f"own {number}")
    made: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []
    for name, parameter in parameters.items():
        role, why = found[name]
        sizes = tuple(parameter.shape)
        row = Row(parameter=name, shape=sizes, role=role, why=why, depth=deep[name])
        if id(parameter) in held:
            group = mine[held[id(parameter)]]
            said = {key: group.get(key) for key in ("lr", "weight_decay")}
            row = replace(row, why="yours", group=group["name"], **said)
        elif name in frozen or not parameter.requires_grad:
            why = "frozen by freeze=" if name in frozen else "frozen as found"
            row = replace(row, why=why)
        else:
            hidden = against.get(name) == ""
            why = f"{why}; {against[name]}" if against.get(name) else why
            label, rate, decay = plan.place(role, deep[name], hidden)
            settings = {"name": label, "lr": rate, "weight_decay": decay}
            settings |= {"use_muon": hidden} if muon else {}
            made.setdefault(label, {"params": [], **settings})
            made[label]["params"].append(parameter)
            row = replace(row, why=why, group=label, lr=rate, weight_decay=decay)
        rows.append(row)
    result = [*mine, *(made[label] for label in _sorted(made, rows))]
    if not result:
        raise InputError(
            f"expected something to train, but all {len(parameters)} parameters of "
            f"{type(model).__name__} are frozen; freeze less"
        )
    _assert_once(parameters, frozen, result)
    for name in frozen:
        parameters[name].requires_grad_(False)
    still = tuple(name for name in parameters if name in frozen)
    return Groups(result, rows, how=how, frozen=still)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What was asked for; `last` is the depth from which on, and the factor."""

    lr: float
    weight_decay: float
    bias_lr: float | None
    layer_decay: float
    last: tuple[int, float]
    layers: int
    decayed: set[str]

    def place(self, role: str, depth: int, hidden: bool) -> tuple[str, float, float]:
        """Return the name of a parameter's group, its lr and its weight decay."""
        decays = role in self.decayed
        label, rate = ("decayed" if decays else "not decayed"), self.lr
        if role == "bias" and self.bias_lr is not None:
            label, rate = "biases", self.bias_lr
        if hidden:
            label = "muon"
        if self.layer_decay < 1:
            label += f", depth {depth}"
            rate *= self.layer_decay ** (self.layers - 1 - depth)
        start, factor = self.last
        if depth >= start:
            label += f", last {self.layers - start}"
            rate *= factor
        return label, rate, self.weight_decay if decays else 0.0


def _check(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    lr: float,
    weight_decay: float,
    bias_lr: float | None,
    layer_decay: float,
) -> None:
    if not parameters:
        raise InputError(
            f"expected a model with parameters, got {type(model).__name__} without any"
        )
    for name, parameter in parameters.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(
                f"expected parameters with a shape, got {name} of a lazy module; run "
                "the model once first"
            )
    numbers = {"lr": lr, "weight_decay": weight_decay, "bias_lr": bias_lr or 0.0}
    for name, number in numbers.items():
        if not (isfinite(number) and number >= 0):
            raise InputError(f"expected {name}= of at least 0, got {number}")
    if not 0 < layer_decay <= 1:
        raise InputError(
            f"expected layer_decay= above 0 and at most 1, got {layer_decay}; 1 gives "
            "all layers one learning rate"
        )


def _graph(model: nn.Module, data: Any) -> Graph:
    with closing(batches(model, data, limit=1)) as feed:
        batch = next(feed)
    return export(model, batch.args, batch.kwargs, training=model.training)


def _last(last: tuple[int, float] | None, layers: int) -> tuple[int, float]:
    """Return the depth from which on lr is multiplied, and by what.

    Raises:
        InputError: there are not so many layers, or the factor is below 0.
    """
    if last is None:
        return layers, 1.0
    count, factor = last
    if not 1 <= count <= layers:
        raise InputError(
            f"expected last=(k, factor) with k from 1 to {layers}, the layers of the "
            f"model, got k = {count}"
        )
    if not (isfinite(factor) and factor >= 0):
        raise InputError(f"expected a factor of at least 0 in last=, got {factor}")
    return layers - count, factor


def _not_for_muon(
    parameters: Mapping[str, nn.Parameter],
    kinds: Mapping[str, str],
    deep: Mapping[str, int],
) -> dict[str, str]:
    """Return {name: ""} of hidden matrices of two axes, of the others the reason."""
    matrices = [name for name, kind in kinds.items() if kind in DECAYED]
    top = [name for name in matrices if deep[name] == max(deep.values())]
    bottom = [name for name in matrices if deep[name] == 0]
    found: dict[str, str] = {}
    for name in matrices:
        found[name] = ""
        if parameters[name].ndim != 2:
            found[name] = f"not for Muon: {parameters[name].ndim} axes"
        elif top == [name]:
            found[name] = "not for Muon: the head"
        elif bottom == [name]:
            found[name] = "not for Muon: reads the input"
    return found


def _sorted(made: Mapping[str, Any], rows: Iterable[Row]) -> list[str]:
    """Return the labels, the least deep first, decayed ones before the others."""
    depth: dict[str, int] = {}
    for row in rows:
        if row.group is not None:
            depth[row.group] = min(row.depth, depth.get(row.group, row.depth))
    kinds = ("muon", "decayed", "biases", "not decayed")
    return sorted(
        made,
        key=lambda label: (
            depth[label] if "depth" in label else 0,
            "last" in label,
            kinds.index(label.partition(",")[0]),
        ),
    )


def _assert_once(
    parameters: Mapping[str, nn.Parameter],
    frozen: set[str],
    result: Iterable[Mapping[str, Any]],
) -> None:
    held = [id(p) for group in result for p in group["params"]]
    due = {id(p) for n, p in parameters.items() if p.requires_grad and n not in frozen}
    assert len(held) == len(set(held)), "a parameter is in two groups"
    assert due <= set(held), "a trainable parameter is in no group"
