"""What may be added to all units alike: all of it is proved, and only it."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from families import FAMILIES
from nullity import doubles, randomised
from plumbob.survey.graph import tensors
from plumbob.survey.shift import offsets
from plumbob.survey.trace import export
from theorems import normals

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def drawn(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            fan = p[0].numel() if p.ndim > 1 else 1
            p.copy_(torch.randn(p.shape, generator=generator) / fan**0.5)
    return model.double().eval()


def found(model, *args, modes=(True, False), **kwargs):
    graphs = [
        export(model, args, kwargs, training=mode) if mode in modes else None
        for mode in (True, False)
    ]
    proofs = offsets(model, *graphs)
    for proof in proofs:
        assert proof.error is not None
        assert proof.error < 1e-12
        assert proof.steps
    return proofs


def places(proofs, mode="inference"):
    return {(p.parameter, p.axis) for p in proofs if getattr(p, mode) == "null"}


def unmoved(model, *args, **kwargs):
    """Return where adding random numbers, alike along one axis, changes no output."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        before = list(tensors(model(*args, **kwargs)))
        still = set()
        for name, p in model.named_parameters():
            for axis, size in enumerate(p.shape):
                other = [1 if i == axis else n for i, n in enumerate(p.shape)]
                shift = torch.randn(other, generator=generator).double()
                p += shift
                after = tensors(model(*args, **kwargs))
                p -= shift
                change = max(
                    float((a - b).abs().max())
                    for a, b in zip(after, before, strict=True)
                )
                if size > 1 and change < 1e-10:
                    still.add((name, axis))
    return still


# True, but not proved: what is added to all of T5's table of distances goes into the
# mask of an attention, and what is subtracted from itself depends on the input.
UNPROVED = {
    "t5": {("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0)},
    "duelling": {("a.weight", 0)},
}
HOW_MANY = {"bert": 13, "vit": 14, "gpt2": 10, "whisper": 12, "convnext": 5, "llama": 0}


@pytest.mark.parametrize("family", [f for f in FAMILIES if "lstm" not in f])
def test_families(family):
    """The theorems are the moves that change no output, along every axis."""
    build, inputs, training = FAMILIES[family]
    torch.manual_seed(0)
    model, inputs = randomised(build()).train(training), doubles(inputs)
    mode = "training" if training else "inference"
    mine = places(found(model, modes=(training,), **inputs), mode)
    assert mine == unmoved(model, **inputs) - UNPROVED.get(family, set())
    assert len(mine) == HOW_MANY.get(family, len(mine))


def test_a_head_that_goes_by_two_names():
    """Whisper's table of words is its output layer, too."""
    build, inputs, _ = FAMILIES["whisper"]
    mine = dict(places(found(build(), modes=(False,), **inputs)))
    assert "model.decoder.embed_positions.weight" in mine
    assert not {"model.decoder.embed_tokens.weight", "proj_out.weight"} & mine.keys()


def test_dropout_between_a_map_and_its_norm_in_training():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.LayerNorm(4))
    proofs = found(model, normals(5, 3))
    assert places(proofs) == {("0.weight", 0), ("0.bias", 0)}
    assert not places(proofs, "training")


class Turned(nn.Module):
    """A map of images, whose channels are normalised at each place."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.norm = conv, nn.LayerNorm(4)

    def forward(self, x):
        z = self.conv(x)
        return self.norm(z.flatten(2).transpose(1, 2)).relu()


@pytest.mark.parametrize(
    ("conv", "axis"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), 0),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), 0),
        (nn.ConvTranspose2d(4, 4, 3, stride=2), 1),
        (nn.Conv2d(4, 4, 3, groups=2), None),
        (nn.Conv2d(4, 4, 3, groups=4), None),
    ],
)
def test_layouts_of_convolutions(conv, axis):
    model, x = drawn(Turned(conv)), normals(2, 4, 5, 5).double()
    mine = places(found(model, x))
    assert mine == unmoved(model, x)
    assert ("conv.weight", axis) in mine or axis is None
    assert mine <= {("conv.weight", axis), ("conv.bias", 0)}


def test_the_layout_of_hugging_face():
    model, x = nn.Sequential(Conv1D(4, 3), nn.LayerNorm(4)), normals(5, 3)
    assert places(found(model, x)) == {("0.weight", 1), ("0.bias", 0)}


def test_one_number_for_each_group_of_a_group_norm():
    model, x = nn.Sequential(nn.Linear(3, 8), nn.GroupNorm(2, 8)), normals(5, 3)
    assert {(p.parameter, p.by, p.groups) for p in found(model, x)} == {
        ("0.weight", "group-norm", 2),
        ("0.bias", "group-norm", 2),
    }
    model = nn.Sequential(nn.Conv1d(3, 8, 2), nn.GroupNorm(2, 8))
    assert places(found(model, normals(5, 3, 6))) == {("0.bias", 0)}


def test_logits_that_softmax_reads():
    model = nn.Sequential(nn.Linear(3, 4), nn.LogSoftmax(-1))
    assert places(found(model, normals(5, 3))) == {("0.weight", 0), ("0.bias", 0)}


class Reads(nn.Module):
    """A table and a map that a layer norm reads, and `also` something else."""

    def __init__(self, also=None):
        super().__init__()
        self.table, self.map = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.norm, self.also = nn.LayerNorm(4), also

    def forward(self, i):
        x = self.table(i)
        y = x + self.map(self.norm(x).relu())
        out = self.norm(y)
        return out if self.also is None else (out, self.also(self, x, y, out))


WRITERS = {("table.weight", 1), ("map.weight", 0), ("map.bias", 0)}


@pytest.mark.parametrize(
    ("also", "left"),
    [
        (None, WRITERS),
        (lambda m, x, y, out: m.norm(2 * y), WRITERS),
        (lambda m, x, y, out: y, set()),
        (lambda m, x, y, out: y.sigmoid(), set()),
        (lambda m, x, y, out: nn.functional.rms_norm(y, (4,)), set()),
        (lambda m, x, y, out: x, WRITERS - {("table.weight", 1)}),
        (lambda m, x, y, out: out @ m.table.weight.T, WRITERS - {("table.weight", 1)}),
    ],
    ids=["none", "norm", "hidden states", "bend", "rms norm", "embedding", "head"],
)
def test_another_reader(also, left):
    model, i = drawn(Reads(also)), torch.arange(6).view(2, 3)
    assert places(found(model, i)) == unmoved(model, i) == left


class Tied(nn.Module):
    """Rows of one memory are read as a table and as the columns of a head."""

    def __init__(self, turn):
        super().__init__()
        self.table, self.norm = nn.Embedding(4, 4), nn.LayerNorm(4)
        self.head = nn.Linear(4, 4, bias=False)
        weight = self.table.weight
        self.head.weight = nn.Parameter(weight.data.T) if turn else weight

    def forward(self, i):
        return self.head(self.norm(self.table(i)))


@pytest.mark.parametrize("turn", [False, True])
def test_a_tied_head(turn):
    assert not found(Tied(turn), torch.arange(4).view(2, 2))
