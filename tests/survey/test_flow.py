"""What a walk says of every node, against the node's values."""

import pytest
import torch
from torch import nn

from plumbob.survey.domain import Shift, plain
from plumbob.survey.flow import Flow
from plumbob.survey.replay import _draw, _fixed, _Player
from plumbob.survey.trace import export
from theorems import Attend, bert, normals, tokens

# transformers warns of what it dislikes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def held(value, shift, tolerance=1e-9):
    """Whether a measured change is what a shift says of it."""
    if shift is None:
        return float(value.abs().max()) < tolerance
    for axis, factors in enumerate(shift.axes):
        if value.shape[axis] == 0:
            return True
        parts = value.movedim(axis, -1).reshape(-1, *(n for n, _ in factors))
        for i, (_, varies) in enumerate(factors):
            if not varies:
                spread = parts - parts.narrow(i + 1, 0, 1)
                if float(spread.abs().max()) > tolerance:
                    return False
    for axis, lo, hi in shift.within:
        inside = torch.arange(value.shape[axis])
        outside = value.movedim(axis, 0)[(inside < lo) | (inside >= hi)]
        if outside.numel() and outside.abs().max() > tolerance:
            return False
    return True


class Everything(_Player):
    """Keeps the value of every node."""

    def run_node(self, n):
        self.met[n] = super().run_node(n)
        return self.met[n]


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
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", models())
def test_every_claim_at_every_node_is_true(which, training):
    """The graph is run with and without the shift and compared node by node."""
    model, args = models()[which]
    graph = export(model, args, {}, training=training)
    flow = Flow(graph)
    checked = 0
    with torch.no_grad(), _fixed():
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
