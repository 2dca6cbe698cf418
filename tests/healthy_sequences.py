"""Healthy networks of sequences and sets. Importing this adds to `healthy.FAMILIES`."""

import math

import torch
from torch import nn
from torch.nn import functional

from healthy import Training, batched, digits, family, quick
from healthy_images import Rows
from healthy_transformers import SMALL, tokens


class LanguageModel(nn.Module):
    """Embedding, two LSTM layers, a decoder tied to the embedding."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(40, width)
        self.rnn = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, 40)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.head.weight = self.embed.weight
        nn.init.zeros_(self.head.bias)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


def next_token(scores, ids):
    return functional.cross_entropy(scores.flatten(0, 1), ids.flatten())


@family
def lstm_language_model(seed):
    return Training(
        model=LanguageModel(),
        batches=[(ids[:, :-1], ids[:, 1:]) for ids in tokens(seed)],
        loss=next_token,
        optimizer=quick(1e-2),
        epochs=12,
    )


class Transcriber(nn.Module):
    """A bidirectional GRU and a softmax over symbols and the blank, time first."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 6)

    def forward(self, x):
        return self.head(self.rnn(x)[0]).log_softmax(-1)


def ctc_loss(logs, y):
    rows, steps = logs.shape[:2]
    said = torch.full((rows,), steps), torch.full((rows,), y.shape[1])
    return functional.ctc_loss(logs.transpose(0, 1), y, *said)


@family
def ctc(seed):
    """Symbols that last three frames each, seen through noise."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(1, 6, (768, 4), generator=g)
    codes = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    x = codes[y].repeat_interleave(3, 1)
    x = x + 0.2 * torch.randn(x.shape, generator=g)
    return Training(
        model=Transcriber(),
        batches=batched(x, y, seed),
        loss=ctc_loss,
        optimizer=quick(1e-2),
        epochs=12,
    )


class LoRA(nn.Module):
    """A frozen map with a learnt product of low rank beside it, at first zero."""

    def __init__(self, frozen, rank=4):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.frozen(x) + 2 * self.up(self.down(x))


class Block(nn.Module):
    """A pre-norm transformer block with four separate projections."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        names = ("query", "key", "value", "out")
        self.maps = nn.ModuleDict({n: nn.Linear(width, width) for n in names})
        self.up, self.down = nn.Linear(width, 64), nn.Linear(64, width)

    def forward(self, x):
        y = self.norms[0](x)
        q, k, v = (
            self.maps[name](y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.maps["out"](y)
        return x + self.down(functional.gelu(self.up(self.norms[1](x))))


@family
def lora(seed):
    """A body trained on digits, frozen, then adapted to tell the even from the odd."""
    x, y = digits()
    x = x.view(-1, 8, 8)
    model = Rows(32, Block(), Block())
    Training(model=model, batches=batched(x, y, 7)).train()
    model.requires_grad_(False)
    for block in model.body:
        for name in ("query", "value"):
            block.maps[name] = LoRA(block.maps[name])
    model.head = nn.Linear(32, 2)
    return Training(
        model=model,
        batches=batched(x, y % 2, seed),
        optimizer=lambda p: torch.optim.AdamW([w for w in p if w.requires_grad], 2e-3),
    )


class Experts(nn.Module):
    """Every token goes to its two best of four experts, weighed by the gate."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 4, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))
            for _ in range(4)
        )

    def forward(self, x):
        y = self.norm(x)
        best, which = self.gate(y).topk(2, -1)
        share = torch.zeros_like(self.gate(y)).scatter(-1, which, best.softmax(-1))
        found = torch.stack([expert(y) for expert in self.experts], -1)
        return x + (found * share[..., None, :]).sum(-1)


@family
def mixture_of_experts(seed):
    x, y = digits()
    return Training(
        model=Rows(32, Experts(32), Experts(32)),
        batches=batched(x.view(-1, 8, 8), y, seed),
    )


@family
def t5(seed):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=40,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        initializer_factor=0.5,
    )
    batches = [{"input_ids": ids, "labels": ids[:, 4:].clone()} for ids in tokens(seed)]
    return Training(
        model=T5ForConditionalGeneration(config),
        batches=batches,
        loss=None,
        optimizer=quick(1e-2),
        epochs=6,
    )


class SetTransformer(nn.Module):
    """Attention among points, then one learnt query that asks them all."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(2, width)
        self.among = nn.MultiheadAttention(width, 4, batch_first=True)
        self.ask = nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.pool = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        h = self.embed(x)
        h = self.norms[0](h + self.among(h, h, h, need_weights=False)[0])
        h = self.norms[1](h + self.mix(h))
        ask = self.ask.expand(len(x), -1, -1)
        return self.head(self.pool(ask, h, h, need_weights=False)[0][:, 0])


def clouds(seed):
    """Sets of 12 points and how far they spread, standardised."""
    g = torch.Generator().manual_seed(seed)
    size = 0.3 + torch.rand(768, 1, generator=g)
    x = size[:, None] * torch.randn(768, 12, 2, generator=g)
    return x, (size - 0.8) / 0.29


@family
def set_transformer(seed):
    return Training(
        model=SetTransformer(), batches=batched(*clouds(seed), seed), loss=nn.MSELoss()
    )


class DeepSets(nn.Module):
    def __init__(self):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32))
        self.all = nn.Sequential(nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.all(self.each(x).mean(1)))


@family
def deep_sets(seed):
    return Training(
        model=DeepSets(), batches=batched(*clouds(seed), seed), loss=nn.MSELoss()
    )


class MessagePassing(nn.Module):
    """Two rounds of messages along the edges of each graph, then a mean."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.heard = nn.ModuleList(
            nn.Linear(width, width, bias=False) for _ in range(2)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, nodes, edges):
        h = self.embed(nodes)
        degree = edges.sum(-1, keepdim=True).clamp_min(1)
        for own, heard in zip(self.own, self.heard, strict=True):
            h = (own(h) + heard(edges @ h / degree)).relu()
        return self.head(h.mean(1))


@family
def message_passing(seed):
    """Do neighbours agree in their first feature more than strangers would?"""
    g = torch.Generator().manual_seed(seed)
    nodes = torch.randn(768, 8, 4, generator=g)
    near = (nodes[:, :, None, 0] * nodes[:, None, :, 0]).sign()
    y = torch.randint(2, (768,), generator=g)
    wish = near * (2 * y - 1)[:, None, None]
    edges = (torch.randn(768, 8, 8, generator=g) + 1.5 * wish > 0.5).float()
    edges = torch.triu(edges, 1)
    edges = edges + edges.mT
    batches = zip(*(t.split(64) for t in (nodes, edges, y)), strict=True)
    return Training(
        model=MessagePassing(),
        batches=list(batches),
        optimizer=quick(5e-3),
        epochs=15,
    )


class Sinusoids(nn.Module):
    def __init__(self, width, length):
        super().__init__()
        place = torch.arange(length)[:, None]
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        angles = place * rate
        table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        self.register_buffer("table", table)

    def forward(self, x):
        return x + self.table


class Decoder(nn.Module):
    """A causal transformer with fixed places and a tied decoder without bias."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(40, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.place = Sinusoids(width, 11)
        layer = nn.TransformerEncoderLayer(
            width, 4, 64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        h = self.body(self.place(self.embed(ids)), mask=mask, is_causal=True)
        return self.norm(h) @ self.embed.weight.T


@family
def causal_decoder(seed):
    return Training(
        model=Decoder(),
        batches=[(ids[:, :-1], ids[:, 1:]) for ids in tokens(seed)],
        loss=next_token,
    )


@family
def rnn_tanh(seed):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(8, 48, batch_first=True)
            self.head = nn.Linear(48, 10)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    x, y = digits()
    return Training(model=Plain(), batches=batched(x.view(-1, 8, 8), y, seed))


@family
def distilbert(seed):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=40,
        dim=SMALL["hidden_size"],
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        num_labels=4,
    )
    batches = [{"input_ids": ids, "labels": ids[:, 0] // 10} for ids in tokens(seed)]
    return Training(
        model=DistilBertForSequenceClassification(config), batches=batches, loss=None
    )
