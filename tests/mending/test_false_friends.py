"""What looks as if it could be mended and must not be, each beside what may be.

Of each pair of models the first is mended at the place that is named; in the second,
its false friend, the same parameter counts and stays as it is.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

import plumbob
from fixing import VALUES, mended
from nullity import randomised
from plumbob.errors import InputError
from theorems import Head, bert, normals, tokens


class Ends(nn.Module):
    """What is done to the outputs of some maps, by name."""

    def __init__(self, score, **maps):
        super().__init__()
        self.score = score
        for name, one in maps.items():
            setattr(self, name, one)

    def forward(self, *inputs):
        return self.score(self, *inputs)


def rolled(x):
    """Turn pairs of numbers by an angle that grows along the sequence."""
    angle = torch.arange(x.shape[-2])[:, None] * 0.5
    a, b = x.chunk(2, -1)
    return torch.cat(
        (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1
    )


def head(score):
    return lambda: (Head(score), normals(3, 5, 8))


def softmaxed(change):
    return head(lambda q, k, v: change(q @ k.mT / 8**0.5).softmax(-1) @ v)


def plus_one(q, k, v):
    weights = (q @ k.mT).exp()
    return weights / (1 + weights.sum(-1, keepdim=True)) @ v


def sink(q, k, v):
    return functional.pad(q @ k.mT, (0, 1)).softmax(-1)[..., :-1] @ v


def convolutions(*layers):
    return lambda: (
        nn.Sequential(*layers, nn.SiLU(), nn.Flatten(), nn.LazyLinear(2)),
        normals(4, 3, 7, 7),
    )


def pooled(counted):
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=counted)
    return convolutions(nn.Conv2d(3, 4, 3), pool, nn.InstanceNorm2d(4))


def padded(mode):
    last = nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode)
    return convolutions(nn.Conv2d(3, 4, 3), last)


def bent(between):
    layers = nn.Sequential(nn.Linear(5, 6), between, nn.Linear(6, 3))
    return lambda: (layers, normals(9, 5))


def masked(mask):
    """Attention whose mask is an input, or none."""

    def score(own, x, *given):
        q, k, v = own.q(x), own.k(x), own.v(x)
        how = {"attn_mask": given[0]} if given else {"is_causal": True}
        return own.out(functional.scaled_dot_product_attention(q, k, v, **how))

    maps = {name: nn.Linear(8, 8) for name in ("q", "k", "v", "out")}
    x = normals(3, 5, 8)
    return lambda: (Ends(score, **maps), (x, mask) if mask is not None else x)


def twice(own, x):
    return own.norm(own.first(x)).relu() + own.second(x)


def used(tied):
    """A map whose values a batch norm reads; its other use has none."""
    first = nn.Linear(5, 4)
    second = first if tied else nn.Linear(5, 4)
    parts = {"first": first, "second": second, "norm": nn.BatchNorm1d(4)}
    return lambda: (Ends(twice, **parts), normals(9, 5))


def language(tied):
    """A table that only layer norms read, unless it is the output layer too."""

    def score(own, words):
        x = own.table(words)
        x = own.norm(x + own.down(own.up(own.norm(x)).tanh()))
        return own.words(own.last(x).tanh())

    parts = {"table": nn.Embedding(50, 6), "norm": nn.LayerNorm(6)}
    parts |= {"up": nn.Linear(6, 8), "down": nn.Linear(8, 6), "last": nn.Linear(6, 6)}
    parts["words"] = nn.Linear(6, 50, bias=False)
    if tied:
        parts["words"].weight = parts["table"].weight
    return lambda: (Ends(score, **parts), tokens())


def returned(too):
    """A layer norm and its reader; its values may be returned too."""

    def score(own, x):
        hidden = own.norm(x)
        out = own.map(hidden).tanh()
        return (out, hidden) if too else out

    parts = {"norm": nn.LayerNorm(5), "map": nn.Linear(5, 3)}
    return lambda: (Ends(score, **parts), normals(9, 5))


class Kept(nn.Linear):
    """A linear layer whose bias is a buffer."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        bias = self.bias.detach()
        del self.bias
        self.register_buffer("bias", bias)


def buffered(layer):
    model = nn.Sequential(layer, nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 2))
    return lambda: (model, normals(9, 5))


def plain(q, k, v):
    return (q @ k.mT).softmax(-1) @ v


# name -> (code, parameter, true friend, false friend)
PAIRS = {
    "zero padding": ("PB310", "0.bias", padded("circular"), padded("zeros")),
    "average pooling counts padding": (
        "PB302", "0.bias", pooled(False), pooled(True)
    ),
    "rotary embedding after the bias": (
        "PB303", "k.bias",
        head(lambda q, k, v: plain(rolled(q), k, v)),
        head(lambda q, k, v: plain(rolled(q), rolled(k), v)),
    ),
    "norm of the keys": (
        "PB303", "k.bias",
        head(lambda q, k, v: plain(functional.rms_norm(q, (8,)), k, v)),
        head(lambda q, k, v: plain(q, functional.rms_norm(k, (8,)), v)),
    ),
    "rows that are masked as a whole": (
        "PB304", "v.bias", masked(None), masked(torch.ones(5, 5).tril(-1) > 0)
    ),
    "tied unembedding": (
        "PB305", "table.weight", language(tied=False), language(tied=True)
    ),
    "layer called twice": ("PB301", "first.bias", used(tied=False), used(tied=True)),
    "relu6": ("PB310", "0.bias", bent(nn.Identity()), bent(nn.ReLU6())),
    "softmax plus one": ("PB303", "k.bias", head(plain), head(plus_one)),
    "sink": (
        "PB303", "k.bias", head(plain),
        head(sink),
    ),
    "soft cap of the logits": (
        "PB303", "k.bias",
        softmaxed(lambda s: s / 5), softmaxed(lambda s: (s / 5).tanh()),
    ),
    "sigmoid attention": (
        "PB303", "k.bias", head(plain), head(lambda q, k, v: (q @ k.mT).sigmoid() @ v)
    ),
    "hidden states are returned": (
        "PB309", "norm.bias", returned(too=False), returned(too=True)
    ),
    "buffer": (
        "PB301", "0.bias", buffered(nn.Linear(5, 4)), buffered(Kept(5, 4))
    ),
}  # fmt: skip


def at_random(build):
    torch.manual_seed(0)
    model, data = build()
    with torch.no_grad():
        model(*data) if isinstance(data, tuple) else model(data)
    return randomised(model).float().eval(), data


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    code, parameter, true, false = PAIRS[name]
    model, data = at_random(true)
    assert parameter in mended(model, data, depth=4, select=VALUES).done.get(code, ())
    model, data = at_random(false)
    result = mended(model, data, depth=4)
    assert parameter not in set().union(*result.done.values())
    kept = result.model.state_dict()[parameter]
    assert torch.equal(kept, model.state_dict()[parameter])


def test_dropout_in_training():
    """Dropout scales what a layer norm would remove, in training only."""
    model = nn.Sequential(
        nn.Linear(5, 6), nn.Dropout(0.5), nn.LayerNorm(6), nn.SiLU(), nn.Linear(6, 2)
    )
    model, data = at_random(lambda: (model, normals(9, 5)))
    assert "0.bias" in mended(model, data, depth=2, select=VALUES).done["PB305"]
    result = mended(model, data, depth=2, select=VALUES, goal="training")
    assert result.done == {}


KINDS = ("forward", "forward_pre", "full_backward", "full_backward_pre")


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_on_what_is_passed(kind):
    model, data = at_random(buffered(nn.Linear(5, 4)))
    getattr(model[1], f"register_{kind}_hook")(lambda *_: None)
    result = mended(model, data, depth=2, select=VALUES)
    assert result.done == {}
    assert "1 has hooks" in result.refused["PB301", "0.bias"]


def anchored(*layers):
    """Put a module that does nothing and has a hook behind the first layer."""
    anchor = nn.Identity()
    anchor.register_forward_hook(lambda *_: None)
    return nn.Sequential(layers[0], anchor, *layers[1:])


@pytest.mark.parametrize(
    ("layers", "rewrite"),
    [
        ((nn.Linear(5, 4), nn.LayerNorm(4)), "centre-before-layer-norm"),
        ((nn.Linear(5, 4), nn.Linear(4, 3)), "merge-stacked-linear"),
        ((nn.Linear(5, 4), nn.BatchNorm1d(4)), "fold-batch-norm"),
        ((nn.RMSNorm(5), nn.Linear(5, 3)), "fold-layer-norm-gamma"),
    ],
)
def test_hooks_of_what_leaves_no_operation(layers, rewrite):
    model, x = anchored(*layers).eval(), torch.randn(3, 5)
    result = mended(randomised(model).float(), x, depth=2, select=rewrite)
    assert result.done == {}
    assert all("1 has hooks" in why for why in result.refused.values())
    assert result.refused


def gates():
    return Ends(lambda m, x: (m.map(x) >= m.line).float(), map=nn.Linear(5, 4))


def test_hooks_of_a_map_whose_own_result_changes():
    model, x = gates(), torch.randn(3, 5)
    model.register_parameter("line", nn.Parameter(torch.ones(4)))
    model.map.register_forward_hook(lambda *_: None)
    result = mended(model, x, depth=1, select="threshold-to-bias")
    assert "map has hooks" in result.refused["", "line"]


def test_hooks_elsewhere_see_nothing():
    model, data = at_random(buffered(nn.Linear(5, 4)))
    for module in (model, model[2], model[3]):
        module.register_forward_hook(lambda *_: None)
    assert mended(model, data, depth=2, select=VALUES).done == {"PB301": {"0.bias"}}


def hidden_states(*, returned):
    """A model that was asked for its hidden states once, or is asked each time."""
    torch.manual_seed(0)
    model, data = bert().eval(), {"input_ids": tokens()}
    model.encoder.layer = model.encoder.layer[:1]
    model = randomised(model).float()
    model(**data, output_hidden_states=True)
    assert model.encoder.layer[0]._forward_hooks  # they stay
    if returned:
        data |= {"output_hidden_states": True}
    return mended(model, data, depth=5, select=VALUES)


def test_hooks_that_transformers_leaves():
    result = hidden_states(returned=False)
    assert not result.refused
    assert set(result.done) == {"PB303", "PB304", "PB305", "PB309"}
    assert "embeddings.LayerNorm.bias" in result.done["PB309"]


def test_hidden_states_that_are_returned():
    result = hidden_states(returned=True)
    assert set(result.done) == {"PB303", "PB304", "PB305", "PB309"}
    assert "embeddings.LayerNorm.bias" not in result.done["PB309"]


def test_a_hook_on_a_carrier():
    model, data = at_random(bent(nn.Identity()))
    model[2].register_forward_hook(lambda *_: None)
    result = mended(model, data, depth=2, select=VALUES)
    assert "2 has hooks" in result.refused["PB310", "0.bias"]


def test_parametrised_bias():
    model, data = at_random(buffered(nn.Linear(5, 4)))
    nn.utils.parametrizations.weight_norm(model[0], "bias", dim=None)
    assert mended(model, data, depth=2, select=VALUES).done == {}


def test_parametrised_carrier():
    model, data = at_random(bent(nn.Identity()))
    nn.utils.parametrizations.weight_norm(model[2], "bias", dim=None)
    assert mended(model, data, depth=2, select=VALUES).done == {}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_old_weight_norm():
    """It keeps the weight as a plain tensor, which cannot be copied."""
    model, data = at_random(buffered(nn.Linear(5, 4)))
    nn.utils.weight_norm(model[0])
    with pytest.raises(
        InputError, match=r"cannot be copied .*; take out .*remove_weight"
    ):
        plumbob.fix(model, data)


def test_shared_bias():
    """One bias of two maps, of which a norm removes one only."""
    model, data = at_random(used(tied=False))
    model.second.bias = model.first.bias
    assert mended(model, data, depth=2, select=VALUES).done == {}


def test_part_of_another_parameter():
    """A copy would not move one with the other."""
    model, data = at_random(buffered(nn.Linear(5, 4)))
    model[0].bias = nn.Parameter(model[3].weight.detach()[0])
    with pytest.raises(InputError, match=r"got 3\.weight in that of 0\.bias"):
        plumbob.fix(model, data)


class DTensor(torch.Tensor):
    """Stands for a distributed tensor."""


def test_distributed():
    model, data = at_random(buffered(nn.Linear(5, 4)))
    model[0].bias = nn.Parameter(model[0].bias.detach().as_subclass(DTensor))
    with pytest.raises(InputError, match=r"got 0\.bias, a DTensor"):
        plumbob.fix(model, data)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
def test_quantised():
    model, data = at_random(buffered(nn.Linear(5, 4)))
    model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert mended(model, data, depth=2, select=VALUES).done == {}


def test_another_path():
    """A branch on a value cannot be exported: one run shows one path only."""

    def score(own, x):
        if x.sum() > -1e9:
            return own.norm(own.map(x)).tanh()
        return own.map(x)

    parts = {"map": nn.Linear(5, 4), "norm": nn.BatchNorm1d(4)}
    model, data = at_random(lambda: (Ends(score, **parts), normals(9, 5)))
    result = mended(model, data, depth=2, select=VALUES)
    assert result.done == {}
    assert "does not export" in result.refused["PB301", "map.bias"]
