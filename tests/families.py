"""Small models of many families, with smooth activations, for the oracle of proofs."""

import torch
from torch import nn
from torch.nn import functional

from theorems import Attend, bert, normals, tokens

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}


class First(nn.Module):
    """The first output of a recurrent layer, between linear ones."""

    def __init__(self, layer, width):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0])


class Duelling(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.v, self.a = nn.Linear(3, 8), nn.Linear(8, 1), nn.Linear(8, 4)

    def forward(self, x):
        h = self.body(x).tanh()
        a = self.a(h)
        return self.v(h) + a - a.mean(1, keepdim=True)


class Mixer(nn.Module):
    """Two maps, over tokens and over channels, each behind a layer norm."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.tokens = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 5))
        self.channels = nn.Sequential(nn.Linear(8, 9), nn.GELU(), nn.Linear(9, 8))

    def forward(self, x):
        x = self.stem(x)
        x = x + self.tokens(self.norms[0](x).mT).mT
        x = x + self.channels(self.norms[1](x))
        return self.head(self.norms[2](x).mean(1))


class Next(nn.Module):
    """A ConvNeXt block without its scale of the layer, between two norms."""

    def __init__(self):
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 6, 2, 2), nn.Conv2d(6, 6, 3, groups=6)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.norms[0](self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.norms[1](
            self.depth(functional.pad(x, (1, 1, 1, 1))).permute(0, 2, 3, 1)
        )
        x = x.permute(0, 2, 3, 1) + self.down(functional.gelu(self.up(y)))
        return self.head(self.norms[2](x.mean((1, 2))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))
        self.skip, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        y = self.norms[1](self.b(functional.silu(self.norms[0](self.a(x)))))
        return self.head(functional.silu(self.skip(x) + y).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.mid = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3)
        self.up = nn.ConvTranspose2d(6, 4, 3)
        self.norms = nn.ModuleList(nn.GroupNorm(2, c) for c in (4, 6, 8))
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = functional.silu(self.norms[0](self.down(x)))
        y = self.up(functional.silu(self.norms[1](self.mid(skip))))
        return self.last(functional.silu(self.norms[2](torch.cat([skip, y], 1))))


def encoder(pre):
    layer = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, "gelu", batch_first=True, norm_first=pre
    )
    norm = nn.LayerNorm(16) if pre else None
    return nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)


def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**SMALL, num_hidden_layers=2, image_size=16, patch_size=4)
    return ViTModel(config, add_pooling_layer=False)


def gpt2():
    from transformers import GPT2Config, GPT2Model

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_inner": 24}
    return GPT2Model(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def llama():
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        **SMALL, num_key_value_heads=2, num_hidden_layers=2, vocab_size=50,
        attention_bias=True,
    )  # fmt: skip
    return LlamaModel(config)


def t5():
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    return T5EncoderModel(T5Config(**sizes, vocab_size=50))


def albert():
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(**SMALL, embedding_size=8, num_hidden_layers=2, vocab_size=50)
    return AlbertModel(config, add_pooling_layer=False)


def whisper():
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    ffn = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8}
    ends = {"max_source_positions": 10, "max_target_positions": 12}
    marks = {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(
        **heads, **layers, **ffn, **ends, **marks,
        vocab_size=60, d_model=16, pad_token_id=0,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


def words(many=10, length=9, vocabulary=50):
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(0, vocabulary, (many, length), generator=generator)
    }


def images(many=12, size=6):
    return {"x": normals(many, 3, size, size)}


TOKENS, STEPS = {"src": normals(9, 7, 16)}, {"x": normals(6, 9, 3)}
# name -> (model, inputs, is it in training)
FAMILIES = {
    "bert": (bert, words(), False),
    "vit": (vit, {"pixel_values": normals(4, 3, 16, 16)}, False),
    "gpt2": (gpt2, words(), False),
    "llama": (llama, words(), False),
    "t5": (t5, words(), False),
    "albert": (albert, words(), False),
    "whisper": (
        whisper,
        {
            "input_features": normals(4, 8, 20),
            "decoder_input_ids": tokens(5).repeat(2, 1),
        },
        False,
    ),
    "attention": (Attend, {"x": normals(9, 5, 16)}, True),
    "encoder, post-norm": (lambda: encoder(pre=False), TOKENS, True),
    "encoder, pre-norm": (lambda: encoder(pre=True), TOKENS, True),
    "residual, training": (Residual, images(), True),
    "residual, inference": (Residual, images(), False),
    "u-net": (UNet, images(4), True),
    "mixer": (Mixer, {"x": normals(40, 5, 6)}, True),
    "convnext": (Next, images(60), True),
    "lstm": (lambda: First(nn.LSTM(3, 4, 2, bidirectional=True), 8), STEPS, True),
    "projected lstm": (lambda: First(nn.LSTM(3, 4, proj_size=2), 2), STEPS, True),
    "gru": (lambda: First(nn.GRU(3, 4, 2), 4), STEPS, True),
    "rnn": (lambda: First(nn.RNN(3, 4), 4), STEPS, True),
    "duelling": (Duelling, {"x": normals(30, 3)}, True),
}
