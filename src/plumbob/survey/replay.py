"""The randomised test of a redundancy: the graph replayed with and without a shift.

A theorem holds for every value of the parameters, so it is tried at random ones: there
a wrong theorem changes the outputs by about the size of the shift. That shows nothing
where the outputs are not finite, or are the same at all parameters: such a theorem is
not tested, and said not to be. All is computed in float64, also what the model itself
casts to float32.
"""

import random
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from plumbob.survey.domain import name, shape
from plumbob.survey.graph import Graph

MOST_PARAMETERS = 2**26  # half a gigabyte in float64
MOST_VALUES = 2**27  # numbers that one replay computes
LEAST_BOUND, MOST_BOUND = 1e-9, 1e-4
EPS = 2.0**-52
_DEAF = "at random values the outputs do not depend on the parameters"


@dataclass(frozen=True, slots=True)
class Claim:
    """No output changes when rows lo..hi of a parameter are shifted.

    They move in `groups` equal runs, by one number each; 0: every row by its own. Rows
    are counted along `axis`, and the numbers are others at each place along the others.
    `carriers` maps the nodes where another parameter makes up for the shift to its
    name and its axis, None for a single number; those `against` it are moved by the
    same rows, the other way. `met` are all nodes that the shift reaches.
    """

    parameter: str
    lo: int
    hi: int
    carriers: Mapping[fx.Node, tuple[str, int | None]]
    met: frozenset[fx.Node]
    groups: int = 0
    against: frozenset[str] = frozenset()
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """`error` is the relative change of the output, None with a reason if untested."""

    holds: bool
    error: float | None = None
    untested: str = ""


def replays(model: nn.Module, graph: Graph, claims: Sequence[Claim]) -> list[Trial]:
    """Test claims on one graph, together where they cannot hide each other.

    The bound is 1e-9 or, where the replay itself is less exact than that, a hundred
    times the change that one unit in the last place of all parameters makes. A wrong
    theorem changes the output by far more than 1e-4, which no bound exceeds.
    """
    if not claims:
        return []
    reason = _obstacle(model, graph)
    if reason:
        return [Trial(holds=True, untested=f"not tested: {reason}") for _ in claims]
    try:
        with torch.no_grad(), fixed():
            return _tested(_Replay(model, graph, claims), claims)
    except Exception as error:  # any operation may refuse float64 or random values
        why = f"not tested: its replay raised {type(error).__name__}"
        return [Trial(holds=True, untested=why) for _ in claims]


def bound_of(noise: float) -> float:
    """Return what rounding may come to where an ulp of all parameters makes noise."""
    return min(max(LEAST_BOUND, 100 * noise), MOST_BOUND)


def _tested(replay: "_Replay", claims: Sequence[Claim]) -> list[Trial]:
    noise = replay.noise()
    reason = replay.vacuous() or ("" if noise or replay.reacts() else _DEAF)
    if reason:
        return [Trial(holds=True, untested=f"not tested: {reason}") for _ in claims]
    bound = bound_of(noise)
    trials: dict[int, Trial] = {}
    for group in _groups(claims):
        error = replay.error([claims[i] for i in group])
        for i in group:
            mine = error
            if not error <= bound and len(group) > 1:
                mine = replay.error([claims[i]])
            trials[i] = Trial(holds=mine <= bound, error=mine)
    return [trials[i] for i in range(len(claims))]


def _groups(claims: Sequence[Claim]) -> list[list[int]]:
    """Group claims that cannot hide each other.

    A carrier takes away all that arrives, so where there is one, the shifts of two
    claims must not meet.
    """
    groups: list[tuple[list[int], set[fx.Node], bool]] = []
    for i, claim in enumerate(claims):
        free = not claim.carriers and not claim.against
        for members, met, all_free in groups:
            if (free and all_free) or not met & claim.met:
                members.append(i)
                met |= claim.met
                break
        else:
            groups.append(([i], set(claim.met), free))
    return [members for members, _, _ in groups]


def _obstacle(model: nn.Module, graph: Graph) -> str:
    parameters = list(model.parameters())
    known = dict(model.named_buffers(remove_duplicate=False))
    nodes = graph.module.graph.nodes
    if any(p.is_meta for p in parameters):
        return "the parameters hold no values"
    if sum(p.numel() for p in parameters) > MOST_PARAMETERS:
        return f"more than {MOST_PARAMETERS} parameters"
    if sum(prod(shape(n)) for n in nodes) > MOST_VALUES:
        return f"a replay computes more than {MOST_VALUES} numbers"
    for node in nodes:
        buffer = graph.buffers.get(node.name)
        kept = buffer in known or node.name in graph.constants
        if buffer is not None and not kept and prod(shape(node)):
            return f"the value of {buffer} is not kept"
    return ""


@contextmanager
def fixed() -> Generator[None]:
    """Restore the random state and the default dtype."""
    dtype, state = torch.get_default_dtype(), random.getstate()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(state)


@dataclass(slots=True)
class _Replay:
    """Random values for a graph, and its outputs at them.

    Where an output is not finite anywhere, as by the root of a negative parameter,
    positive values are drawn instead.
    """

    model: nn.Module
    graph: Graph
    claims: Sequence[Claim]
    values: dict[str, Any] = field(init=False)
    base: list[Tensor] = field(init=False)
    kept: dict[fx.Node, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        nodes = {n for claim in self.claims for n in claim.carriers}
        for positive in (False, True):
            torch.manual_seed(0)
            self.kept = {}
            self.values = _draw(self.model, self.graph, positive=positive)
            self.base, self.kept = self.run(self.values, dict.fromkeys(nodes))
            if not self.vacuous():
                break

    def vacuous(self) -> str:
        """Return why no change could show, "" where one could."""
        if all(value.isfinite().any() for value in self.base if value.numel()):
            return ""
        return "at random values an output is not finite anywhere"

    def reacts(self) -> bool:
        """Return whether the outputs are others at other parameters."""
        values = dict(self.values)
        for key in self.graph.parameters:
            values[key] = 2 * values[key] + 1
        return _change(self.run(values, {})[0], self.base) > 0

    def run(
        self, values: Mapping[str, Any], carriers: Mapping[fx.Node, Any]
    ) -> tuple[list[Tensor], dict[fx.Node, Tensor]]:
        outputs, met, _ = play(self.graph, values, carriers, self.kept)
        return outputs, met

    def noise(self) -> float:
        """Return the change by one unit in the last place of every parameter."""
        values = dict(self.values)
        for key in self.graph.parameters:
            sign = torch.randint(0, 2, values[key].shape, device=values[key].device)
            values[key] = values[key] * (1 + EPS * (2 * sign - 1))
        return _change(self.run(values, {})[0], self.base)

    def error(self, claims: Sequence[Claim]) -> float:
        """Return the relative change of the output by random shifts."""
        values = dict(self.values)
        carriers: dict[fx.Node, tuple[str, int | None]] = {}
        torch.manual_seed(2)
        for claim in claims:
            carriers |= claim.carriers
            shift: Tensor | None = None
            for key, parameter in self.graph.parameters.items():
                sign = (parameter == claim.parameter) - (parameter in claim.against)
                if sign:
                    values[key] = values[key].clone()
                    rows = values[key].narrow(claim.axis, claim.lo, claim.hi - claim.lo)
                    shift = _drawn(rows, claim) if shift is None else shift
                    rows += sign * shift
        return _change(self.run(values, carriers)[0], self.base)


def _drawn(rows: Tensor, claim: Claim) -> Tensor:
    """Draw the numbers by which rows move."""
    sizes, mine = list(rows.shape), rows.shape[claim.axis]
    sizes[claim.axis] = claim.groups or mine
    times = mine // sizes[claim.axis]
    return torch.randn(sizes).repeat_interleave(times, claim.axis).to(rows)


def play(
    graph: Graph,
    values: Mapping[str, Any],
    carriers: Mapping[fx.Node, Any],
    kept: Mapping[fx.Node, Tensor],
) -> tuple[list[Tensor], dict[fx.Node, Tensor], dict[str, Tensor]]:
    """Run a graph once in float64.

    Returns:
        Its outputs; the values that arrive at the carriers' nodes; and, where it is
        known what arrives there otherwise (`kept`), what each carrier took away.
    """
    torch.manual_seed(1)
    player = _Player(graph.module, carriers, kept)
    copies = [v.clone() if torch.is_tensor(v) else v for v in values.values()]
    results = player.run(*copies)
    named = next(n for n in graph.module.graph.nodes if n.op == "output")
    nodes = pytree.tree_leaves(named.args[0])
    leaves = pytree.tree_leaves(results)
    outputs = [
        value.double()
        for node, value in zip(nodes, leaves, strict=True)
        if isinstance(node, fx.Node) and node.name in graph.outputs
    ]
    return outputs, player.met, player.taken


def inputs(model: nn.Module, graph: Graph) -> dict[fx.Node, list[Any]]:
    """Return values for the inputs of a graph, in float64; its constants are inputs.

    Those that are floating-point numbers are drawn at random.
    """
    known = {*graph.parameters, *graph.buffers} - graph.constants.keys()
    device = next(model.parameters()).device
    found: dict[fx.Node, list[Any]] = {}
    with fixed():
        torch.manual_seed(0)
        for node in graph.module.graph.nodes:
            if node.op != "placeholder" or node.name in known:
                continue
            value = graph.constants.get(node.name)
            if value is None and isinstance(value := node.meta.get("val"), Tensor):
                value = _random(node, value, graph, positive=False).to(device)
            elif isinstance(value, Tensor) and value.is_floating_point():
                value = value.double()
            found[node] = [value]
    return found


class _Player(fx.Interpreter):
    """Runs a graph in float64; at its carriers the shift is taken away again.

    A carrier makes up for one vector along its axis (or one number), the same one
    wherever it is read, so the shift that arrives must be constant along the others:
    what is not is left in place, and shows.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        carriers: Mapping[fx.Node, Any],
        kept: Mapping[fx.Node, Tensor],
    ) -> None:
        super().__init__(module)
        self.carriers, self.kept = carriers, kept
        self.met: dict[fx.Node, Tensor] = {}
        self.taken: dict[str, Tensor] = {}  # by each carrier, where it was met first

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n not in self.carriers:
            return result
        value = result[0] if isinstance(result, tuple) else result
        self.met[n] = value
        if n not in self.kept:
            return result
        carrier, axis = self.carriers[n]
        others = [i for i in range(value.dim()) if i != axis]
        mine = (value - self.kept[n]).mean(others)
        mine = self.taken.setdefault(carrier, mine)
        shape = [-1 if i == axis else 1 for i in range(value.dim())]
        value = value - mine.reshape(shape)
        return (value, *result[1:]) if isinstance(result, tuple) else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map_only(torch.dtype, _double, (args, kwargs))
        return super().call_function(target, args, kwargs)


def _double(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point else dtype


def _draw(model: nn.Module, graph: Graph, *, positive: bool = False) -> dict[str, Any]:
    """Draw parameters and floating inputs; keep buffers; inputs else as they fit."""
    known = dict(model.named_buffers(remove_duplicate=False))
    device = next(model.parameters()).device
    drawn: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for node in graph.module.graph.nodes:
        if node.op != "placeholder":
            continue
        value = node.meta.get("val")
        key = graph.parameters.get(node.name) or node.name
        own = known.get(graph.buffers.get(node.name, ""))
        buffer = graph.constants.get(node.name, own)
        if not isinstance(value, Tensor):
            values[node.name] = value
        elif buffer is not None:
            floating = buffer.is_floating_point()
            values[node.name] = buffer.double() if floating else buffer
        else:
            if key not in drawn:
                drawn[key] = _random(node, value, graph, positive).to(device)
            values[node.name] = drawn[key]
    return values


def _random(node: fx.Node, like: Tensor, graph: Graph, positive: bool) -> Tensor:
    """Draw a tensor: matrices that keep the scale of what they multiply.

    Whole numbers that pick from a table are drawn over the table. Others are those of
    the batch, as another one may be out of range. So are the truth values of a
    recorded graph, which may have chosen its path. Else half of each row is True, in
    random places: a row that is masked as a whole is NaN after a softmax.
    """
    if like.is_floating_point():
        drawn = torch.randn(like.shape)
        if node.name in graph.parameters and like.dim() > 1:
            drawn /= (like.numel() / max(like.shape)) ** 0.5
        return drawn.abs() if positive else drawn
    if (rows := _table(node)) is not None:
        return torch.randint(0, rows, like.shape)
    if like.dtype is torch.bool and not graph.on_this_path:
        coin = torch.randint(0, 2, (*like.shape[:-1], 1))
        order = torch.rand(like.shape).argsort(-1)
        return ((order + coin) % 2 == 0).view(like.shape)
    return graph.given.get(node.name, torch.ones(like.shape, dtype=like.dtype))


def _table(node: fx.Node) -> int | None:
    """Return the rows of the table that whole numbers pick from, None if there is none.

    They are followed through changes of layout only.
    """
    for user in node.users:
        if name(user) == "embedding" and user.args[1] is node:
            return shape(user.args[0])[0]  # pyright: ignore[reportArgumentType]
        if name(user) in {"view", "clone", "slice", "expand", "unsqueeze", "_to_copy"}:
            rows = _table(user)
            if rows is not None:
                return rows
    return None


def _change(now: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """Return the largest change, relative to the largest value of each output."""
    worst = 0.0
    for a, b in zip(now, before, strict=True):
        both = a.isfinite() & b.isfinite()
        if not torch.equal(a.isfinite(), b.isfinite()):
            return float("inf")
        if both.any():
            scale = b[both].abs().max().clamp_min(torch.finfo(b.dtype).tiny)
            worst = max(worst, float((a - b)[both].abs().max() / scale))
    return worst
