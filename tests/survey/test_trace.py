import time

import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from plumbob.survey.trace import canonical
from tracing import IDS, Block, Tied, feeds, tiny, traced, where


def test_mlp_with_batch_norm():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU(inplace=True)
    ).append(nn.Linear(4, 2))
    graph, found = traced(model, torch.randn(5, 3), training=True)
    assert not graph.on_this_path
    assert list(found) == ["0", "1", "4"]
    first, norm, last = found.values()
    assert (first.kind, first.out, first.fan_in) == ("linear", 4, 3)
    assert (first.weight, first.bias) == ("0.weight", "0.bias")
    assert (first.norm, first.activation, feeds(first)) == (
        "batch-norm",
        "relu",
        {"4": 1},
    )
    assert (norm.kind, norm.out, norm.fan_in) == ("norm", 4, 1)
    assert (norm.fed_by, feeds(norm)) == (("0",), {"4": 1})
    assert (last.fed_by, last.activation) == (("0",), None)
    assert where(found, "reads_input") == {"0"}
    assert where(found, "is_output") == {"4"}
    assert not where(found, "ends_residual")


def test_flattened_image_repeats_channels():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    model.extend([nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3), nn.GELU(), nn.Flatten()])
    model.append(nn.Linear(6 * 4 * 4, 2))
    _, found = traced(model, torch.randn(5, 3, 8, 8))
    assert feeds(found["0"]) == {"4": 1}
    assert feeds(found["4"]) == {"7": 16}
    assert [s.activation for s in found.values()] == ["relu", "gelu", None]
    assert (found["0"].kind, found["0"].fan_in) == ("conv", 27)


def test_channels_last_flatten_is_not_one_to_one():
    class Moved(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 1), nn.Linear(8, 1)

        def forward(self, x):
            return self.fc(self.conv(x).permute(0, 2, 3, 1).flatten(1))

    _, found = traced(Moved(), torch.randn(3, 1, 2, 2))
    assert feeds(found["conv"]) == {"fc": None}


@pytest.mark.parametrize("training", [True, False])
def test_residual_blocks(training):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Block(4, 4), Block(4, 6))
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)])
    _, found = traced(model, torch.randn(5, 3, 8, 8), training=training)
    assert where(found, "ends_residual") == {"1.c2", "2.c2"}
    assert feeds(found["0"]) == {"1.c1": 1, "2.c1": 1, "2.down": 1}
    assert feeds(found["2.c2"]) == feeds(found["2.down"]) == {"5": 1}
    assert (found["1.c1"].norm, found["1.c1"].activation) == ("batch-norm", "relu")
    assert (found["1.c2"].norm, found["1.c2"].activation) == ("batch-norm", None)
    assert found["0"].activation is None
    assert found["5"].fed_by == ("2.c2", "2.down")


def test_pre_activation_goes_two_ways():
    class Pre(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            z = self.a(x)
            return z + self.b(torch.relu(z))

    _, found = traced(Pre(), torch.randn(2, 3))
    assert found["a"].activation is None
    assert found["b"].ends_residual
    assert not found["a"].ends_residual


def test_transformer_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    _, found = traced(model, torch.randn(5, 2, 8))
    packed = found["layers.0.self_attn.in_proj_weight"]
    assert (packed.out, packed.rows, packed.reads_input) == (24, None, True)
    assert feeds(packed) == {"layers.0.self_attn.out_proj": None}
    assert where(found, "ends_residual") == {
        f"layers.{i}.{end}" for i in (0, 1) for end in ("self_attn.out_proj", "linear2")
    }
    assert found["layers.0.linear1"].activation == "relu"
    assert feeds(found["layers.0.linear1"]) == {"layers.0.linear2": 1}
    assert found["layers.1.norm2"].kind == "norm"


def test_cross_attention_uses_rows_of_the_packed_weight():
    model = nn.MultiheadAttention(8, 2)
    x, y = torch.randn(5, 2, 8), torch.randn(4, 2, 8)
    _, found = traced(model, x, y, y)
    assert {n: s.rows for n, s in found.items()} == {
        "in_proj_weight[0:8]": (0, 8),
        "in_proj_weight[8:24]": (8, 24),
        "out_proj": None,
    }
    assert found["in_proj_weight[8:24]"].bias == "in_proj_bias"
    _, found = traced(model, x, y, y.clone())
    assert [s.rows for s in found.values()] == [(0, 8), (8, 16), (16, 24), None]


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent(layer, gates):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = layer(8, 5, 2, bidirectional=True)
            self.head = nn.Linear(10, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    model = Net()
    flat = [id(w) for w in model.rnn._flat_weights]
    graph, found = traced(model, torch.randn(3, 2, 8))
    assert flat == [id(w) for w in model.rnn._flat_weights]
    assert not graph.on_this_path
    assert len(found) == 9
    first = found["rnn.weight_ih_l0"]
    assert (first.kind, first.out, first.fan_in) == ("recurrent", 5 * gates, 8)
    assert (first.bias, first.reads_input) == ("rnn.bias_ih_l0", True)
    hidden = found["rnn.weight_hh_l0_reverse"]
    assert (hidden.fed_by, hidden.fan_in) == (("rnn.weight_ih_l0_reverse",), 5)
    assert not hidden.reads_input
    assert set(found["head"].fed_by) == {n for n in found if "_l1" in n}


def test_recurrent_cell():
    _, found = traced(nn.GRUCell(4, 3), torch.randn(2, 4))
    assert [s.kind for s in found.values()] == ["recurrent"] * 2
    assert found["weight_hh"].fed_by == ("weight_ih",)


def test_packed_sequence_is_recorded():
    packed = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    graph, found = traced(nn.LSTM(4, 5), packed)
    assert graph.on_this_path
    assert {n: (s.kind, s.out) for n, s in found.items()} == {
        "weight_ih_l0": ("recurrent", 20),
        "weight_hh_l0": ("recurrent", 20),
    }


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_head(device):
    model = Tied().to(device)
    model.head.weight = model.table.weight
    graph, found = traced(model, torch.tensor([[1, 2]]))
    assert list(found) == ["table", "body", "head"]
    assert set(graph.parameters.values()) == set(canonical(model).values())
    assert found["head"].weight == found["table"].weight == "table.weight"
    assert found["head"].tied == ("head.weight",)
    assert (found["table"].out, found["table"].fan_in) == (4, 7)
    assert found["table"].transposed
    assert not found["head"].transposed
    assert where(found, "is_output") == {"head"}
    assert where(found, "reads_input") == {"table"}


def test_tied_through_a_function_and_views():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 4)

        def forward(self, ids):
            return self.table(ids) @ self.table.weight.T

    _, found = traced(Functional(), torch.tensor([1, 2]))
    assert {n: s.kind for n, s in found.items()} == {
        "table": "embedding",
        "table.weight": "linear",
    }
    model = nn.Module()
    model.a = nn.Parameter(torch.randn(6))
    model.b = nn.Parameter(model.a.data)
    model.c = nn.Parameter(model.a.data[:3])  # a part of a flat buffer is its own
    assert canonical(model) == {"a": "a", "b": "a", "c": "c"}


def test_bert():
    model = tiny(transformers.BertModel, transformers.BertConfig)
    graph, found = traced(model, input_ids=IDS)
    assert not graph.on_this_path
    layer = "encoder.layer.0"
    assert found[f"{layer}.intermediate.dense"].activation == "gelu"
    assert feeds(found[f"{layer}.intermediate.dense"]) == {f"{layer}.output.dense": 1}
    assert where(found, "ends_residual") == {
        f"{layer}.attention.output.dense",
        f"{layer}.output.dense",
    }
    assert found["pooler.dense"].activation == "tanh"
    assert feeds(found[f"{layer}.attention.self.value"]) == {
        f"{layer}.attention.output.dense": None
    }


def test_gpt2():
    model = tiny(
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config,
        bos_token_id=1,
        eos_token_id=2,
    )
    graph, found = traced(model, input_ids=IDS, training=True)
    assert not graph.on_this_path
    up, down = found["transformer.h.0.mlp.c_fc"], found["transformer.h.0.mlp.c_proj"]
    assert (up.out, up.fan_in, up.transposed) == (64, 16, True)
    assert up.activation == "gelu"  # written out in eight operations
    assert feeds(up) == {"transformer.h.0.mlp.c_proj": 1}
    assert down.ends_residual
    assert found["lm_head"].weight == "transformer.wte.weight"
    assert where(found, "is_output") == {"lm_head"}


def test_llama():
    model = tiny(
        transformers.LlamaForCausalLM, transformers.LlamaConfig, num_key_value_heads=1
    )
    graph, found = traced(model, input_ids=IDS)
    assert not graph.on_this_path
    gate, up = (
        found["model.layers.0.mlp.gate_proj"],
        found["model.layers.0.mlp.up_proj"],
    )
    assert (gate.activation, up.activation) == ("silu", None)
    assert feeds(gate) == feeds(up) == {"model.layers.0.mlp.down_proj": None}
    norm = found["model.layers.0.input_layernorm"]
    assert (norm.kind, norm.out, norm.bias) == ("norm", 16, None)
    assert feeds(norm) == {f"model.layers.0.self_attn.{c}_proj": 1 for c in "qkv"}
    assert where(found, "ends_residual") == {
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.mlp.down_proj",
    }


def test_vit():
    model = tiny(
        transformers.ViTForImageClassification,
        transformers.ViTConfig,
        image_size=8,
        patch_size=4,
    )
    graph, found = traced(model, pixel_values=torch.randn(2, 3, 8, 8))
    assert not graph.on_this_path
    patches = found["vit.embeddings.patch_embeddings.projection"]
    assert (patches.kind, patches.fan_in, patches.reads_input) == ("conv", 48, True)
    assert feeds(patches)["classifier"] == 1
    assert where(found, "is_output") == {"classifier"}


def test_whisper():
    model = tiny(
        transformers.WhisperForConditionalGeneration,
        transformers.WhisperConfig,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=10,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    graph, found = traced(
        model, input_features=torch.randn(2, 8, 20), decoder_input_ids=IDS
    )
    assert not graph.on_this_path
    assert feeds(found["model.encoder.conv1"]) == {"model.encoder.conv2": 1}
    assert found["proj_out"].tied == ("proj_out.weight",)
    assert found["proj_out"].weight == "model.decoder.embed_tokens.weight"
    key = found["model.decoder.layers.0.encoder_attn.k_proj"]
    assert (key.bias, "model.encoder.layers.0.fc2" in key.fed_by) == (None, True)


def test_large_llama_on_meta():
    model = tiny(
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig,
        device="meta",
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_attention_heads=32,
        num_hidden_layers=4,
    )
    start = time.monotonic()
    graph, found = traced(model, input_ids=IDS)
    assert time.monotonic() - start < 30
    assert not graph.on_this_path
    assert len(found) == 4 * 9 + 3
    assert found["lm_head"].fan_in == 4096


class Rare(nn.Module):
    def __init__(self):
        super().__init__()
        self.free, self.offset = (
            nn.Parameter(torch.randn(3, 4)),
            nn.Parameter(torch.zeros(4)),
        )
        self.computed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.depth = nn.Conv2d(6, 6, 3, groups=6, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.shared = nn.Linear(6, 6)
        self.heads = nn.Parameter(torch.randn(6, 2, 3))

    def forward(self, x):
        h = nn.functional.silu(x @ self.free + self.offset)
        h = self.computed(h)[:, :, None, None].expand(-1, -1, 3, 3)
        h = self.norm(self.depth(self.up(h))).mean((2, 3))
        h = self.shared(torch.tanh(self.shared(h)))
        return torch.einsum("bi,ihd->bhd", h, self.heads), torch.cat([h, h], 1)


def test_rare_maps():
    _, found = traced(Rare(), torch.randn(4, 3))
    assert list(found) == ["free", "up", "depth", "norm", "shared", "heads"]
    free = found["free"]
    assert (free.bias, free.activation, free.transposed) == ("offset", "silu", True)
    assert feeds(free) == {}  # what reads it has a computed weight
    up = found["up"]
    assert (up.kind, up.out, up.fan_in, up.groups) == ("conv-transpose", 6, 8, 2)
    assert (up.fed_by, up.reads_input, feeds(up)) == ((), False, {"depth": None})
    assert (found["depth"].norm, feeds(found["depth"])) == ("group-norm", {"shared": 1})
    assert found["shared"].activation is None  # only one of its two uses has one
    assert feeds(found["shared"]) == {"shared": 1, "heads": None}
    heads = found["heads"]
    assert (heads.out, heads.fan_in, heads.transposed) == (6, 6, True)
