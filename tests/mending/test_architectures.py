"""What is mended in models as they are built, by name, and what it costs in ulps."""

import pytest
import torch
from torch import nn

from families import FAMILIES, First, encoder, gpt2, llama, words
from fixing import VALUES, mended, nothing_left, nothing_told
from nullity import randomised
from theorems import Attend, bert, normals

# transformers warns of what it dislikes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def first(model, *path):
    """Keep the first of a model's layers only."""
    owner = model.get_submodule(".".join(path[:-1]))
    setattr(owner, path[-1], getattr(owner, path[-1])[:1])
    return model


class ResNet(nn.Module):
    """A stem and one block with a skip that is mapped too; every map has a bias."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head((self.block(x) + self.skip(x)).relu().mean((2, 3)))


class Gated(nn.Module):
    """Half of a map gates the other half."""

    def __init__(self):
        super().__init__()
        self.norm, self.up = nn.LayerNorm(6), nn.Linear(6, 16)
        self.down = nn.Linear(8, 3)

    def forward(self, x):
        return self.down(nn.functional.glu(self.up(self.norm(x))))


class Shared(nn.Module):
    """One block, that is a norm and two maps, done twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 6), nn.Linear(6, 3)
        self.block = nn.Sequential(
            nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)
        )
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.block(x)
        return self.head(self.norm(x + self.block(x)))


class Dictionary(nn.Module):
    """Reads a mapping and returns one."""

    def __init__(self):
        super().__init__()
        self.body, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.scores, self.size = nn.Linear(6, 5), nn.Linear(6, 1)

    def forward(self, inputs):
        h = self.norm(self.body(inputs["x"])).tanh()
        return {"classes": self.scores(h).softmax(-1), "size": self.size(h)}


def padded():
    """Maps with nothing between them, padded in each way that keeps a constant one."""
    modes = ("circular", "reflect", "replicate")
    layers = [nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode) for mode in modes]
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), *layers, nn.SiLU(), nn.Flatten(), nn.Linear(100, 3)
    )


def convolutions():
    """Grouped, dilated, transposed, depthwise and pointwise, each before a norm."""
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.SiLU(),
        nn.Conv2d(6, 6, 3, dilation=2), nn.InstanceNorm2d(6), nn.SiLU(),
        nn.ConvTranspose2d(6, 4, 3, 2, padding=1, groups=2), nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 6, 1), nn.GroupNorm(6, 6),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


# name -> (model, data, maps in a row, {code: parameters})
CASES = {
    "residual network": lambda: (
        ResNet(), normals(4, 3, 6, 6), 4,
        {"PB301": {"stem.0.bias", "block.0.bias", "block.3.bias", "skip.0.bias"}},
    ),
    "attention": lambda: (
        Attend(), normals(3, 5, 16), 3,
        {"PB303": {"attend.in_proj_bias"}, "PB304": {"attend.in_proj_bias"}},
    ),
    "encoder, norms last": lambda: (
        first(encoder(pre=False), "layers"), normals(3, 5, 16), 5,
        {
            "PB303": {"layers.0.self_attn.in_proj_bias"},
            "PB304": {"layers.0.self_attn.in_proj_bias"},
            "PB305": {"layers.0.self_attn.out_proj.bias", "layers.0.linear2.bias"},
            "PB309": {"layers.0.norm1.bias"},
        },
    ),
    "encoder, norms first": lambda: (
        first(encoder(pre=True), "layers"), normals(3, 5, 16), 5,
        {
            "PB303": {"layers.0.self_attn.in_proj_bias"},
            "PB304": {"layers.0.self_attn.in_proj_bias"},
            "PB309": {"layers.0.norm1.bias", "layers.0.norm2.bias"},
        },
    ),
    "bert": lambda: (
        first(bert(), "encoder", "layer"), words(4, 5), 5,
        {
            "PB303": {"encoder.layer.0.attention.self.key.bias"},
            "PB304": {"encoder.layer.0.attention.self.value.bias"},
            "PB305": {
                "encoder.layer.0.attention.output.dense.bias",
                "encoder.layer.0.output.dense.bias",
            },
            "PB309": {
                "embeddings.LayerNorm.bias",
                "encoder.layer.0.attention.output.LayerNorm.bias",
            },
        },
    ),
    "gpt2": lambda: (
        first(gpt2(), "h"), words(4, 5), 5,
        {
            "PB303": {"h.0.attn.c_attn.bias"},
            "PB304": {"h.0.attn.c_attn.bias"},
            "PB305": {"h.0.attn.c_proj.bias", "h.0.mlp.c_proj.bias"},
            "PB309": {"h.0.ln_1.bias", "h.0.ln_2.bias"},
        },
    ),
    "whisper": lambda: (
        FAMILIES["whisper"][0](), FAMILIES["whisper"][1], 15,
        {
            "PB304": {
                f"model.{part}.v_proj.bias"
                for part in (
                    "encoder.layers.0.self_attn",
                    "decoder.layers.0.self_attn",
                    "decoder.layers.0.encoder_attn",
                )
            },
            "PB309": {
                f"model.{part}_layer_norm.bias"
                for part in (
                    "encoder.layers.0.self_attn",
                    "encoder.layers.0.final",
                    "decoder.layers.0.self_attn",
                    "decoder.layers.0.encoder_attn",
                    "decoder.layers.0.final",
                )
            },
        },
    ),
    "llama": lambda: (
        first(llama(), "layers"), words(4, 5), 5,
        {"PB304": {"layers.0.self_attn.v_proj.bias"}},
    ),
    "lstm": lambda: (
        First(nn.LSTM(3, 4, 2, bidirectional=True), 8), normals(4, 5, 3), 11,
        {
            "PB308": {
                f"layer.bias_ih_l{i}{way}" for i in range(2) for way in ("", "_reverse")
            }
        },
    ),
    "gru": lambda: (
        First(nn.GRU(3, 4), 4), normals(4, 5, 3), 6, {"PB308": {"layer.bias_ih_l0"}}
    ),
    "every padding": lambda: (
        padded(), normals(4, 3, 7, 7), 4, {"PB310": {"0.bias", "1.bias", "2.bias"}}
    ),
    "convolutions": lambda: (
        convolutions(), normals(6, 4, 9, 9), 6,
        {
            "PB301": {"0.bias", "6.bias"},
            "PB302": {"3.bias"},
            "PB307": {"9.bias", "10.bias"},
        },
    ),
    "gated": lambda: (Gated(), normals(9, 6), 2, {"PB309": {"norm.bias"}}),
    "shared": lambda: (
        Shared(), normals(9, 5), 6,
        {
            "PB305": {"stem.bias", "block.3.bias"},
            "PB309": {"block.0.bias", "norm.bias"},
        },
    ),
    "dictionary": lambda: (
        Dictionary(), {"inputs": {"x": normals(9, 4)}}, 2,
        {"PB301": {"body.bias"}, "PB306": {"scores.bias"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_inference(name):
    torch.manual_seed(0)
    model, data, depth, expected = CASES[name]()
    model = randomised(model).float().eval()
    result = mended(model, data, depth=depth, select=VALUES)
    missing = {c: names - result.done.get(c, set()) for c, names in expected.items()}
    assert not any(missing.values()), (missing, result.done)
    nothing_told(result.model, data, result.done)
    nothing_left(result.model, data, select=VALUES)


# what is null in training too; BERT's dropout scales what its norms would remove
TRAINED = {
    "residual network": ("PB301",),
    "attention": ("PB303",),
    "encoder, norms last": ("PB303", "PB305"),
    "bert": ("PB303",),
    "convolutions": ("PB301", "PB302", "PB307"),
    "lstm": (),
    "dictionary": ("PB301", "PB306"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training(name):
    torch.manual_seed(0)
    model, data, depth, expected = CASES[name]()
    model = randomised(model).float().train()
    result = mended(model, data, depth=depth, goal="training", select=VALUES)
    vectors = {
        code: {place for place in places if model.get_parameter(place).ndim == 1}
        for code, places in result.done.items()
    }
    found = {code: places for code, places in vectors.items() if places}
    assert found == {code: expected[code] for code in TRAINED[name]}
    nothing_left(result.model, data, goal="training", select=VALUES)


def test_bfloat16():
    torch.manual_seed(0)
    model = randomised(first(encoder(pre=True), "layers")).bfloat16().eval()
    data = normals(3, 5, 16).bfloat16()
    result = mended(model, data, depth=5, select=VALUES)
    assert {one.dtype for one in result.proof.certificates} == {"bfloat16"}
    assert {"PB303", "PB304", "PB309"} <= set(result.done)
    nothing_told(result.model, data, result.done)
