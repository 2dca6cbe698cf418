"""What the tests of centring share: small transformers, and one rewrite done alone."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, ViTConfig, ViTModel

from plumbob.mending.offer import Offer
from plumbob.mending.plan import Plan
from plumbob.survey.batches import batches
from plumbob.survey.graph import export
from plumbob.survey.shift import theorems
from plumbob.survey.structures import Structure
from rewriting import tried
from theorems import bert, normals, tokens

SMALL = {"num_hidden_layers": 1, "num_attention_heads": 4}


def gpt2(kind=GPT2Model):
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 4, "vocab_size": 50}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    return kind(GPT2Config(**sizes, n_positions=8, **ends))


def gpt2_with_tied_head():
    return gpt2(GPT2LMHeadModel)


def vit():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "image_size": 8}
    return ViTModel(ViTConfig(**sizes, **SMALL, patch_size=4), add_pooling_layer=False)


def encoder(**options):
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


IDS = {"input_ids": tokens()}
INPUTS = {bert: IDS, gpt2: IDS, gpt2_with_tied_head: IDS} | {
    vit: {"pixel_values": normals(2, 3, 8, 8)},
    encoder: {"src": normals(2, 5, 16)},
}


class Cancels(nn.Module):
    """Two tables whose sum is much smaller than they are."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Embedding(8, 16), nn.Embedding(8, 16)
        self.norm = nn.LayerNorm(16, bias=False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.one.weight.random_(256, generator=generator)
            self.two.weight.random_(2, generator=generator).sub_(self.one.weight)

    def forward(self, i):
        return self.norm(self.one(i) + self.two(i))


def drawn(model):
    """Fill a model with random values around 0.3."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 + torch.randn(p.shape, generator=generator) / 3)
    return model.eval()


@dataclass(slots=True)
class Mended:
    model: nn.Module
    certificate: object
    refused: list


def mend(rewrite, model, data, goal="inference"):
    """Do one rewrite to a copy of a model; for inference that alone is traced."""
    batch, mended = next(batches(model, data, limit=1)), copy.deepcopy(model)
    graphs = {
        training: export(mended, batch.args, batch.kwargs, training=training)
        for training in ([True, False] if goal == "training" else [False])
    }
    walks = theorems(mended, graphs.get(True), graphs[False])
    structure = Structure(sites=(), graphs=graphs, walks=walks)
    plan = Plan(model=mended, batch=batch, structure=structure, goal=goal)
    places = list(rewrite(plan))
    offers = [place for place in places if isinstance(place, Offer)]
    done, refused = tried(mended, batch, offers)
    refused += [place for place in places if not isinstance(place, Offer)]
    assert len(done) < 2
    return Mended(mended, done[0] if done else None, refused)
