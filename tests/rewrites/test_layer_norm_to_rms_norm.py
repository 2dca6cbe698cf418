"""Layer norms that have no mean to subtract become RMS norms, the others stay."""

import pytest
import torch
from torch import nn

import plumbob
from centring import (
    INPUTS,
    Cancels,
    bert,
    drawn,
    encoder,
    gpt2,
    gpt2_with_tied_head,
    mend,
)
from plumbob.rewrites.layer_norm_to_rms_norm import layer_norm_to_rms_norm
from theorems import normals

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def without_bias(model):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.bias = None
    return model


def kinds(model):
    return {
        name: type(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
    }


def exchanged(model):
    return {name for name, kind in kinds(model).items() if kind is nn.RMSNorm}


EVERY = {
    bert: {"embeddings.LayerNorm"},
    gpt2: {"h.0.ln_1", "h.0.ln_2", "ln_f"},
    gpt2_with_tied_head: set(),
}


@pytest.mark.parametrize("build", EVERY)
def test_transformers(build):
    model, data = drawn(without_bias(build())), INPUTS[build]
    done = mend(layer_norm_to_rms_norm, model, data)
    assert exchanged(done.model) == EVERY[build]
    assert not exchanged(model)
    assert not done.refused
    if not EVERY[build]:
        return
    assert done.certificate.claim.value == "eval-only"
    assert done.certificate.identity_ulps < 100
    for name in EVERY[build]:
        old, new = model.get_submodule(name), done.model.get_submodule(name)
        assert torch.equal(old.weight, new.weight)
        assert (old.eps, old.training) == (new.eps, new.training)


def test_norms_before_their_layers():
    model = nn.Sequential(
        nn.Linear(16, 16), encoder(norm_first=True, bias=False), nn.LayerNorm(16)
    )
    model[2].bias = None
    model[2].weight.requires_grad_(False)
    done = mend(layer_norm_to_rms_norm, drawn(model), normals(2, 5, 16))
    assert exchanged(done.model) == {"1.layers.0.norm1", "1.layers.0.norm2", "2"}
    assert not done.model[2].weight.requires_grad


def test_a_norm_without_parameters():
    norm = nn.LayerNorm(8, elementwise_affine=False)
    done = mend(
        layer_norm_to_rms_norm,
        drawn(nn.Sequential(nn.Linear(3, 8), norm)),
        normals(6, 3),
    )
    assert exchanged(done.model) == {"1"}
    assert not list(done.model[1].parameters())


def test_norms_after_their_layers():
    model, x = drawn(encoder(bias=False)), normals(2, 5, 16)
    assert not mend(layer_norm_to_rms_norm, model, x).certificate


class Residual(nn.Module):
    """A net whose residual stream only layer norms read, and what `also` returns."""

    def __init__(self, bias=True, also=None):
        super().__init__()
        self.read, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm, self.last = nn.LayerNorm(8, 1e-3, bias=bias), nn.LayerNorm(8)
        self.also = also

    def forward(self, x):
        x = self.read(x)
        y = x + self.down(torch.tanh(self.up(self.norm(x))))
        out = self.head(self.last(y))
        return out if self.also is None else (out, self.also(self, x, y))


def test_in_one_go_with_all_the_rest():
    model, x = drawn(Residual()), normals(6, 3)
    fixed, proof = plumbob.fix(model, x)
    assert exchanged(fixed) == {"norm", "last"}
    assert "layer-norm-to-rms-norm" in {c.rewrite for c in proof.certificates}
    assert torch.allclose(fixed(x), model(x), rtol=1e-4)
    assert not plumbob.fix(fixed, x)[1].certificates


@pytest.mark.parametrize(
    "also",
    [
        lambda m, x, y: y,
        lambda m, x, y: y.relu(),
        lambda m, x, y: nn.functional.rms_norm(y, (8,)),
        lambda m, x, y: y @ m.read.weight,
    ],
    ids=["hidden states", "bend", "rms norm", "tied"],
)
def test_another_reader(also):
    model = drawn(without_bias(Residual(also=also)))
    assert not exchanged(mend(layer_norm_to_rms_norm, model, normals(6, 3)).model)


class Odd(nn.LayerNorm):
    pass


def odd(model):
    model.norm = Odd(8, bias=False)


def biased(model):
    model.norm = nn.LayerNorm(8)


def shared(model):
    model.last = model.norm


def hooked(model):
    model.norm.register_forward_hook(lambda *given: None)


@pytest.mark.parametrize(
    ("spoil", "place", "why"),
    [
        (odd, "norm", "its module is Odd, not nn.LayerNorm"),
        (biased, "norm", "it has a bias, which nn.RMSNorm has not"),
        (shared, "norm", "norm and last are one module"),
        (hooked, "norm", "has hooks"),
    ],
)
def test_refused_with_the_reason(spoil, place, why):
    model = without_bias(Residual())
    spoil(model)
    done = mend(layer_norm_to_rms_norm, drawn(model), normals(6, 3))
    assert place not in exchanged(done.model)
    assert why in {r.place.partition("@")[0]: r.why for r in done.refused}[place]


class Placed(nn.Module):
    """A table to which constants are added, which need not sum to 0."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(8, 4), nn.LayerNorm(4, bias=False)
        self.register_buffer("waves", torch.arange(12.0).view(3, 4).sin())

    def forward(self, i):
        return self.norm(self.table(i) + self.waves)


def test_constants_that_are_no_parameters():
    i = torch.arange(6).view(2, 3)
    assert not mend(layer_norm_to_rms_norm, drawn(Placed()), i).certificate


def test_training_keeps_its_layer_norms():
    model = drawn(without_bias(Residual()))
    done = mend(layer_norm_to_rms_norm, model, normals(6, 3), goal="training")
    assert not done.certificate


def test_what_rounds_too_coarsely():
    model, i = Cancels().bfloat16(), torch.arange(8)
    done = mend(layer_norm_to_rms_norm, model, i)
    assert done.certificate is None
    assert "it rounds too coarsely" in done.refused[0].why
    assert not exchanged(done.model)
