"""What a walk says of every node, against the node's values."""

import pytest
import torch
from torch import nn

from plumbob.survey.domain import Shift, plain, sizes_of
from plumbob.survey.flow import Flow
from plumbob.survey.replay import _draw, _Player, fixed
from plumbob.survey.seeds import redundant
from plumbob.survey.shift import proofs
from plumbob.survey.trace import export, record
from theorems import Attend, Grouped, Head, bert, normals, tokens

# transformers warns of what it dislikes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def held(value, shift, tolerance=1e-9):
    """Whether a measured change is what a shift says of it."""
    if shift is None:
        return float(value.abs().max()) < tolerance
    assert sizes_of(shift) == list(value.shape)
    for axis, lo, hi in shift.within:
        index = torch.arange(value.shape[axis])
        outside = value.movedim(axis, 0)[(index < lo) | (index >= hi)]
        if outside.numel() and outside.abs().max() > tolerance:
            return False
    cut = {axis for axis, _, _ in shift.within}
    for axis, lo, hi in shift.within:  # what varies inside is looked at axis by axis
        value = value.narrow(axis, lo, hi - lo)
    for axis, factors in enumerate(shift.axes):
        if value.shape[axis] == 0:
            return True
        if axis in cut:
            varies = any(flag for _, flag in factors)
            factors = ((value.shape[axis], varies),)
        parts = value.movedim(axis, -1).reshape(-1, *(n for n, _ in factors))
        for i, (_, varies) in enumerate(factors):
            if not varies:
                spread = parts - parts.narrow(i + 1, 0, 1)
                if float(spread.abs().max()) > tolerance:
                    return False
    return True


class Everything(_Player):
    """Keeps the value of every node."""

    def run_node(self, n):
        self.met[n] = super().run_node(n)
        return self.met[n]


class Repeated(nn.Module):
    """A map whose values are repeated along all axes, in all ways."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 6)

    def forward(self, x):
        x = self.map(x).repeat_interleave(2, -1).repeat_interleave(2, 0)
        halves = x.view(4, 3, 2, 6).tile(2, 3, 1).repeat(3, 1, 1, 2, 1)
        return x.tile(2), halves.repeat_interleave(2, -2).flatten(-2)


def models():
    conv = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 6, 1),
        nn.AvgPool2d(2),
        nn.GroupNorm(3, 6),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 5),
        nn.LayerNorm(5),
    )
    return {
        "attention": (Attend(), (normals(2, 5, 16),)),
        "one sample": (Attend(), (normals(1, 1, 16),)),
        "conv": (conv, (normals(2, 3, 22, 22),)),
        "encoder": (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1
            ),
            (normals(2, 5, 16),),
        ),
        "bert": (bert(), (tokens(),)),
        "repeated": (Repeated(), (normals(2, 3, 4),)),
        **{
            f"heads by {how}": (Grouped(how), (normals(2, 5, 8),))
            for how in ("enable_gqa", "repeat_interleave", "cat")
        },
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", models())
def test_every_claim_at_every_node_is_true(which, training):
    """The graph is run with and without the shift and compared node by node."""
    model, args = models()[which]
    graph = export(model, args, {}, training=training)
    flow = Flow(graph)
    checked = 0
    with torch.no_grad(), fixed():
        values = _draw(model.double(), graph)
        before = replay(graph, values)
        for parameter, nodes in flow.placeholders.items():
            size = nodes[0].meta["val"].shape
            parts = [(0, size[0])] if len(size) == 1 else []
            parts += [(size[0] // 3, 2 * size[0] // 3)] if parts else []
            for lo, hi in parts:
                whole = plain(size, {0}, depends=False)
                seed = Shift(whole.axes, depends=False, within=((0, lo, hi),))
                walk = flow.follow(dict.fromkeys(nodes, seed), absorb=False)
                moved = dict(values)
                for node in nodes:
                    moved[node.name] = values[node.name].clone()
                    moved[node.name][lo:hi] += normals(hi - lo)
                after = replay(graph, moved)
                for node, shift in walk.shifts.items():
                    if torch.is_tensor(before[node]) and not isinstance(shift, list):
                        change = (after[node] - before[node]).nan_to_num()
                        assert held(change, shift), (parameter, node, shift)
                        checked += 1
    assert checked > 10


def replay(graph, values):
    torch.manual_seed(0)
    player = Everything(graph.module, {}, {})
    player.run(*[v.clone() if torch.is_tensor(v) else v for v in values.values()])
    return player.met


class Wired(nn.Module):
    """A linear layer, a norm, vectors of 1 and 4 numbers, wired by a function."""

    def __init__(self, wire):
        super().__init__()
        self.wire = wire
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.one, self.four = nn.Parameter(normals(1)), nn.Parameter(normals(4))

    def forward(self, x):
        return self.wire(self, x)


def claimed(model, x, *, trace=export, training=True):
    """Return {parameter: kinds of ends and carriers} by the walks alone."""
    flow = Flow(trace(model, (x,), {}, training=training))
    return {
        name: [*walk.ends, *(c.name for c in walk.carriers)]
        for name in flow.placeholders
        for _, walk in redundant(flow, name)
    }


class TestOneSideOnly:
    """What only the walk can get wrong: the randomised test is not asked."""

    def test_one_number_carries_no_vector(self):
        def add(model, x):
            return model.linear(x) + model.one

        def product(model, x):
            return torch.addmm(model.one, x, model.linear.weight.T) + model.four

        assert claimed(Wired(add), normals(5, 3)) == {
            "one": ["linear.bias"],
            "linear.bias": ["one"],  # its constant
        }
        found = claimed(Wired(product), normals(5, 3))
        assert found == {"one": ["four"], "four": ["one"]}

    def test_one_number_carries_another(self):
        model = Wired(lambda m, x: x @ m.linear.weight.T + m.one)
        model.other = nn.Parameter(normals(1))
        model.wire = lambda m, x: (x @ m.linear.weight.T + m.one) + m.other
        found = claimed(model, normals(5, 3))
        assert found == {"one": ["other"], "other": ["one"]}
        graph = export(model, (normals(5, 3),), {}, training=False)
        assert all(proof.error < 1e-12 for proof in proofs(model, None, graph))

    def test_a_roll_of_all_values_mixes_channels(self):
        for dims, expected in ((None, "constant"), (0, "each")):
            model = Wired(lambda m, x, d=dims: m.norm(torch.roll(m.linear(x), 1, d)))
            flow = Flow(export(model, (normals(5, 3),), {}, training=True))
            ((move, walk),) = redundant(flow, "linear.bias")
            assert (move.direction, walk.ends) == (expected, ("batch-norm",))

    def test_an_empty_part_of_a_cat(self):
        def wire(model, x):
            z = model.linear(x)
            return torch.cat([model.norm(z), z[:0]])

        assert claimed(Wired(wire), normals(5, 3)) == {"linear.bias": ["batch-norm"]}

    @pytest.mark.parametrize("fill", [-1e4, -5.0])
    @pytest.mark.parametrize("end", ["softmax", "log_softmax"])
    def test_a_finite_fill_is_hidden_by_softmax_alone(self, fill, end):
        hidden = torch.eye(5, dtype=torch.bool)
        model = Head(
            lambda q, k, v: getattr((q @ k.mT).masked_fill(hidden, fill), end)(-1)
        )
        exact = fill < -1e3 and end == "softmax"
        expected = {"k.bias": ["softmax-key"]} if exact else {}
        assert claimed(model, normals(2, 5, 8)) == expected

    def test_a_number_handed_to_python_is_seen(self):
        def scale(model, x):
            return model.norm(model.linear(x)) * model.linear.bias.max().item()

        def choose(model, x):
            z = model.linear(x)
            return model.norm(z).relu() if (z > -99).all() else model.norm(z)

        assert claimed(Wired(scale), normals(5, 3), trace=record) == {}
        chosen = claimed(Wired(choose), normals(5, 3), trace=record)
        assert chosen == {"linear.bias": ["batch-norm"]}
