"""Small networks with one redundancy each, and whole networks with several."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from peers.facts import (
    both,
    centred,
    centred_groups,
    fewer,
    keeps,
    rarer,
    smaller,
    without,
)

D = 64  # units


def filled(model):
    """Return a model with no parameter or statistic at a round value."""
    with torch.no_grad():
        for p in model.parameters():
            scale = p.shape[-1] ** -0.5 if p.dim() > 1 else 0.5
            p.copy_(torch.randn_like(p) * scale + (p.dim() == 1))
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer))
    return model.eval()


class Attention(nn.Module):
    def __init__(self, key=False, value=False):
        super().__init__()
        self.query = nn.Linear(D, D)
        self.key = nn.Linear(D, D, bias=key)
        self.value = nn.Linear(D, D, bias=value)
        self.out = nn.Linear(D, D)

    def forward(self, x):
        q, k, v = (
            part(x).unflatten(-1, (4, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class PostNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.LayerNorm(D)
        self.up, self.down = nn.Linear(D, 2 * D), nn.Linear(2 * D, D)
        self.second = nn.LayerNorm(D)

    def forward(self, x):
        x = self.first(x)
        return self.second(x + self.down(functional.gelu(self.up(x))))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(D, D, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x):
        return torch.tanh(self.one(x) + self.two(torch.relu(x)))


class Standardised(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(D))
        self.register_buffer("sd", torch.rand(D) + 0.5)

    def forward(self, x):
        return (x - self.mean) / self.sd


class Threshold(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(D, 2 * D)
        self.threshold = nn.Parameter(torch.zeros(2 * D))
        self.read = nn.Linear(2 * D, D)

    def forward(self, x):
        return self.read((self.map(x) > self.threshold).to(x.dtype))


class Reused(nn.Module):
    """A convolution that is called twice, with a norm after one call or after both."""

    def __init__(self, second):
        super().__init__()
        self.conv, self.one = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.two = second(16)

    def forward(self, x):
        return self.one(self.conv(x)) + self.two(self.conv(x.flip(-1)))


class Both(nn.Module):
    """A convolution that is read by a norm, and as it is."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)

    def forward(self, x):
        x = self.conv(x)
        return torch.tanh(x) + self.norm(x)


class Normalised(nn.Module):
    """A weight that is worked out at each call."""

    def __init__(self):
        super().__init__()
        self.v, self.g = nn.Parameter(torch.ones(D, D)), nn.Parameter(torch.ones(D, 1))

    def forward(self, x):
        return functional.linear(
            x, self.v * self.g / self.v.square().sum(1, True).sqrt()
        )


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(D, D)

    def forward(self, x):
        return torch.tanh(self.map(x)) + torch.sigmoid(self.map(x))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x):
        return self.conv(functional.pad(x, (1, 1, 1, 1)))


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(D, D)

    def forward(self, x):
        return self.map(x.transpose(1, 2).transpose(1, 2))


def dead():
    """Eight of the units never fire: no sigmoid exceeds 1."""
    model = filled(
        nn.Sequential(nn.Sigmoid(), nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))
    )
    with torch.no_grad():
        model[1].bias[:8] = -model[1].weight[:8].clamp(min=0).sum(1) - 1
    return model


def resting():
    """No unit of the first map is ever below zero."""
    model = filled(nn.Sequential(nn.Sigmoid(), nn.Linear(D, D), nn.ReLU(), nn.Tanh()))
    with torch.no_grad():
        model[1].weight.abs_()
        model[1].bias.abs_()
    return model


def duplicates():
    model = filled(nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D)))
    with torch.no_grad():
        model[0].weight[:8] = model[0].weight[8:16]
        model[0].bias[:8] = model[0].bias[8:16]
    return model


def zero_bias():
    model = filled(nn.Sequential(nn.Linear(D, D), nn.Tanh()))
    with torch.no_grad():
        model[0].bias.zero_()
    return model


def chain(*layers):
    return lambda: filled(nn.Sequential(*(layer() for layer in layers)))


def of(kind, *given, **options):
    return lambda: kind(*given, **options)


@dataclass(frozen=True)
class Row:
    """A network, what it is fed, and how to see that its redundancy is gone."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    gone: Callable | None = None
    goal: str = "inference"
    tokens: int = 0  # of a vocabulary, where tokens are fed

    def data(self, seed):
        generator = torch.Generator().manual_seed(seed)
        if self.tokens:
            return torch.randint(self.tokens, self.shape, generator=generator)
        return torch.randn(self.shape, generator=generator)


IMAGE, ROWS_, SEQUENCE = (4, 3, 20, 20), (64, D), (8, 16, D)
CONV, WIDE = of(nn.Conv2d, 3, 16, 3), of(nn.Linear, D, 2 * D)
NORM = "BatchNormalization"

ROWS = [
    Row("conv + BN", chain(CONV, of(nn.BatchNorm2d, 16), nn.ReLU), IMAGE,
        without(NORM)),
    Row("transposed conv + BN",
        chain(of(nn.ConvTranspose2d, 3, 16, 3), of(nn.BatchNorm2d, 16), nn.ReLU),
        IMAGE, without(NORM)),
    Row("linear + BN", chain(WIDE, of(nn.BatchNorm1d, 2 * D), nn.ReLU), ROWS_,
        without(NORM)),
    Row("BN + next conv, unpadded", chain(nn.ReLU, of(nn.BatchNorm2d, 3), CONV), IMAGE,
        without(NORM)),
    Row("bias before BN that trains on",
        chain(CONV, of(nn.BatchNorm2d, 16), nn.ReLU), IMAGE,
        both(fewer(16), keeps(NORM)), "training"),
    Row("bias before IN", chain(CONV, of(nn.InstanceNorm2d, 16), nn.ReLU), IMAGE,
        fewer(16)),
    Row("group means before GN", chain(CONV, of(nn.GroupNorm, 4, 16), nn.ReLU), IMAGE,
        centred_groups(4, 16)),
    Row("key bias", lambda: filled(Attention(key=True)), SEQUENCE, fewer(D)),
    Row("value bias", lambda: filled(Attention(value=True)), SEQUENCE, fewer(D)),
    Row("key and value bias, packed", lambda: filled(Packed()), SEQUENCE, fewer(2 * D)),
    Row("LN beta, pre-norm", chain(of(nn.LayerNorm, D), WIDE, nn.GELU), SEQUENCE,
        fewer(D)),
    Row("LN beta, readers without bias",
        chain(of(nn.LayerNorm, D), of(nn.Linear, D, D // 2, bias=False), nn.GELU),
        SEQUENCE, fewer(D // 2)),
    Row("LN beta, post-norm", lambda: filled(PostNorm()), SEQUENCE, fewer(D)),
    Row("LN gamma", chain(of(nn.LayerNorm, D, bias=False), WIDE, nn.GELU), SEQUENCE,
        fewer(D)),
    Row("centring before LN", chain(WIDE, of(nn.LayerNorm, 2 * D)), SEQUENCE,
        centred(2 * D, D)),
    Row("LN -> RMSNorm", chain(WIDE, of(nn.LayerNorm, 2 * D, bias=False)), SEQUENCE,
        without("LayerNormalization")),
    Row("logit centring", chain(WIDE, of(nn.Softmax, -1)), SEQUENCE,
        centred(2 * D, D)),
    Row("two biases of an LSTM", lambda: filled(Recurrent(nn.LSTM)), SEQUENCE,
        fewer(4 * D)),
    Row("two biases of a GRU", lambda: filled(Recurrent(nn.GRU)), SEQUENCE,
        fewer(2 * D)),
    Row("stacked linear", chain(WIDE, of(nn.Linear, 2 * D, D), nn.Tanh), SEQUENCE,
        fewer(2 * D * D)),
    Row("biases of two branches", lambda: filled(Branches()), SEQUENCE, fewer(D)),
    Row("bias after softmax",
        chain(of(nn.Softmax, -1), of(nn.Linear, D, D), nn.Tanh), SEQUENCE, fewer(D)),
    Row("input standardisation", chain(Standardised, WIDE, nn.ReLU), SEQUENCE,
        fewer(2 * D)),
    Row("dead units, proved", dead, SEQUENCE, fewer(8 * 2 * D)),
    Row("a ReLU that never rests", resting, SEQUENCE, without("Relu")),
    Row("duplicate units", duplicates, SEQUENCE, fewer(8 * 2 * D)),
    Row("threshold beside a bias", lambda: filled(Threshold()), SEQUENCE,
        fewer(2 * D)),
    # what compilers of graphs are for
    Row("a bias of zeros", zero_bias, SEQUENCE, smaller(D)),
    Row("weight worked out at each call", lambda: filled(Normalised()), SEQUENCE,
        without("Div")),
    Row("the same product twice", lambda: filled(Twice()), SEQUENCE, rarer("MatMul")),
    Row("transposed there and back", lambda: filled(Turned()), SEQUENCE,
        rarer("Transpose")),
    Row("padding before a conv", lambda: filled(Padded()), IMAGE, without("Pad")),
    # what is easily done wrong
    Row("conv called twice, one BN", lambda: filled(Reused(lambda n: nn.Identity())),
        IMAGE, without(NORM)),
    Row("conv called twice, two BN", lambda: filled(Reused(nn.BatchNorm2d)), IMAGE,
        without(NORM)),
    Row("BN and a plain reader", lambda: filled(Both()), IMAGE, without(NORM)),
    Row("BN + next conv, zeros padded",
        chain(nn.ReLU, of(nn.BatchNorm2d, 3), of(nn.Conv2d, 3, 16, 3, padding=1)),
        IMAGE, without(NORM)),
]  # fmt: skip


class Output(nn.Module):
    """A model of Hugging Face's that returns one tensor."""

    def __init__(self, model, name, probabilities=False):
        super().__init__()
        self.model, self.name, self.probabilities = model, name, probabilities

    def forward(self, x):
        found = getattr(self.model(x), self.name)
        return found.softmax(-1) if self.probabilities else found


def resnet():
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic"
    )
    return filled(Output(ResNetModel(config), "pooler_output"))


SIZES = {"num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 4}


def bert():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        **SIZES, intermediate_size=512, vocab_size=200, max_position_embeddings=16
    )
    model = BertModel(config, add_pooling_layer=False)
    return filled(Output(model, "last_hidden_state"))


def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**SIZES, intermediate_size=512, image_size=32, patch_size=8)
    model = ViTModel(config, add_pooling_layer=False)
    return filled(Output(model, "last_hidden_state"))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=3, n_embd=128, n_head=4, n_positions=16, vocab_size=200,
        tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return filled(Output(GPT2LMHeadModel(config), "logits", probabilities=True))


def conv_net():
    def stage(fan_in, out):
        return nn.Conv2d(fan_in, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()

    layers = (*stage(3, 16), *stage(16, 32), *stage(32, 32), nn.AdaptiveAvgPool2d(1))
    return filled(nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10)))


NETS = [
    Row("conv net", conv_net, (4, 3, 32, 32)),
    Row("ResNet", resnet, (4, 3, 32, 32)),
    Row("BERT", bert, (4, 16), tokens=200),
    Row("GPT-2", gpt2, (4, 16), tokens=200),
    Row("ViT", vit, (4, 3, 32, 32)),
]
