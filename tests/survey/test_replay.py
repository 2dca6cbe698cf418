"""The randomised test tells right theorems from wrong ones."""

import torch
from torch import nn
from torch.nn import functional

from plumbob.survey.replay import Claim, replays
from plumbob.survey.shift import proofs
from plumbob.survey.trace import export
from theorems import Head, normals, proved, rows


class TestReplay:
    def graph(self, model, x):
        return export(model, (x,), {}, training=False)

    def test_a_wrong_theorem_fails(self):
        model = Head(functional.scaled_dot_product_attention)
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
        claim = Claim("0.bias", 0, 3, {out: ("2.bias", 1)}, frozenset())
        (trial,) = replays(model, graph, [claim])
        assert not trial.holds

    def test_dropout_is_drawn_alike(self):
        model = nn.Sequential(
            nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)
        )
        found = proved(model, normals(8, 4), modes=(True,))
        assert rows(found, training="null") == {"0.bias": (0, 3)}

    def test_no_values_no_test(self):
        with torch.device("meta"):
            model = Head(functional.scaled_dot_product_attention)
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
        model = Head(functional.scaled_dot_product_attention)
        graph = self.graph(model, normals(2, 5, 8))
        before = torch.get_rng_state(), torch.get_default_dtype()
        weight = model.k.weight.detach().clone()
        proofs(model, None, graph)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert torch.get_default_dtype() is before[1]
        assert torch.equal(model.k.weight, weight)
        assert all(p.grad is None for p in model.parameters())


class Masked(nn.Module):
    """Attention under a mask, which is True where a key is hidden."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, 4) for _ in range(3))

    def forward(self, x, mask):
        scores = (self.q(x) @ self.k(x).mT).masked_fill(mask, -torch.inf)
        return scores.softmax(-1) @ self.v(x)


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.linear = scale, nn.Linear(3, 4)
        self.w = nn.Parameter(torch.rand(4) + 1)

    def forward(self, x, *more):
        return self.linear(x) * self.scale(self.w, *more)


class TestVacuous:
    """A wrong theorem fails, or is said not to be tested."""

    def trials(self, model, *args, of, **kwargs):
        graph = export(model, args, kwargs, training=False)
        claims = [Claim(name, lo, hi, {}, frozenset()) for name, lo, hi in of]
        return replays(model, graph, claims)

    def test_masks_hide_part_of_each_row(self):
        of = [("q.bias", 0, 4), ("v.bias", 0, 4), ("k.bias", 0, 4)]
        *wrong, right = self.trials(
            Masked(), normals(4, 5, 3), torch.zeros(4, 5, 5, dtype=torch.bool), of=of
        )
        assert all(trial.error > 1e-3 and not trial.holds for trial in wrong)
        assert right.holds
        assert right.error < 1e-12

    def test_padding_of_an_encoder(self):
        model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        padding = torch.zeros(4, 5, dtype=torch.bool)
        of = [("self_attn.in_proj_bias", 0, 8), ("linear2.bias", 0, 8)]
        found = self.trials(
            model, normals(4, 5, 8), src_key_padding_mask=padding, of=of
        )
        assert not any(trial.holds for trial in found)

    def test_a_parameter_that_must_be_positive(self):
        for scale in (torch.log, lambda w: w.sqrt().sum()):
            (trial,) = self.trials(
                Scaled(scale), normals(5, 3), of=[("linear.bias", 0, 4)]
            )
            assert not trial.holds

    def test_whole_numbers_are_those_of_the_batch(self):
        model = Scaled(lambda w, n: (n - 1)[:, None])
        of = [("linear.bias", 0, 4)]
        (trial,) = self.trials(model, normals(5, 3), torch.arange(5), of=of)
        assert not trial.holds
        (trial,) = self.trials(model, normals(5, 3), torch.ones(5).long(), of=of)
        assert trial.error is None
        assert "do not depend on the parameters" in trial.untested

    def test_no_finite_output(self):
        model = Scaled(lambda w: (-w * w - 1).log())
        (trial,) = self.trials(model, normals(5, 3), of=[("linear.bias", 0, 4)])
        assert trial.error is None
        assert "not finite anywhere" in trial.untested
