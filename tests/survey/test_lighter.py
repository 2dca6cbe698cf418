import pytest
from torch import nn

from families import encoder, gpt2, words
from plumbob.survey.graph import export
from plumbob.survey.lighter import lighter
from theorems import bert, normals


def text(graph):
    """Return a graph, and whose its placeholders are, to be compared."""
    nodes = graph.module.graph.nodes
    told = [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in nodes]
    return told, graph.parameters


def drop(model, names):
    for name in names:
        path, _, last = name.rpartition(".")
        model.get_submodule(path).register_parameter(last, None)


def maps():
    down, up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 2, 3)
    return nn.Sequential(down, nn.BatchNorm2d(4), nn.ReLU(), up)


def normed():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, 1e-3), nn.Linear(4, 2))


LAYER = "encoder.layer.0.attention"
CASES = {
    "maps": (maps, {"input": normals(4, 3, 9, 9)}, {"0.bias", "3.bias"}),
    "norm": (normed, {"input": normals(5, 3)}, {"0.bias", "1.weight", "1.bias"}),
    "bert": (
        bert,
        words(2, 5),
        {f"{LAYER}.self.key.bias", f"{LAYER}.output.LayerNorm.bias"},
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_it_is_as_exported_without_them(name, training):
    build, data, gone = CASES[name]
    model = build()
    found = lighter(export(model, (), data, training=training), gone)
    drop(model, gone)
    assert text(found) == text(export(model, (), data, training=training))


@pytest.mark.parametrize(
    ("model", "gone", "data"),
    [
        (gpt2(), "h.0.attn.c_attn.bias", words(2, 5)),  # of a sum
        (encoder(pre=True), "layers.0.linear1.weight", {"src": normals(2, 3, 16)}),
        (nn.LSTM(2, 3), "bias_ih_l0", {"input": normals(4, 2, 2)}),
    ],
)
def test_what_an_operation_cannot_do_without_is_left(model, gone, data):
    graph = export(model, (), data, training=False)
    before = text(graph)
    assert lighter(graph, {gone}) is None
    assert text(graph) == before
