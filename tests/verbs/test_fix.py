"""What a user gets from `plumbob.fix`: options, optimisers, what is told."""

import copy
import json

import pytest
import torch
from torch import nn

import plumbob
from nets import seeded
from plumbob.errors import InputError
from plumbob.mending.diff import diff
from plumbob.survey.seen import seen
from plumbob.types import Safety

X = torch.randn(16, 3, 6, 6, generator=seeded())
Y = torch.arange(16) % 5


def convolution():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def adam(model):
    groups = [
        {"params": [model[0].weight, model[4].weight]},
        {
            "params": [model[0].bias, model[1].weight, model[1].bias, model[4].bias],
            "lr": 0.01,
        },
    ]
    return torch.optim.Adam(groups, lr=1e-3)


def trained(model, optimizer, steps):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("mode", ["drop", "zero"])
def test_adam_goes_on_with_its_groups_and_state(mode):
    model = convolution()
    optimizer = adam(model)
    trained(model, optimizer, 5)
    before = seen(model), copy.deepcopy(optimizer.state_dict())
    (fixed, held), proof = plumbob.fix(
        model, X, goal="training", mode=mode, optimizer=optimizer
    )
    (made,) = proof.certificates
    assert (made.code, made.claim) == ("PB301", Safety.EXACT)
    gone = mode == "drop"
    assert (fixed[0].bias is None) == gone
    sizes = [len(group["params"]) for group in held.param_groups]
    assert sizes == [2, 3 if gone else 4]
    assert [group["lr"] for group in held.param_groups] == pytest.approx([1e-3, 0.01])
    own = {id(p) for p in fixed.parameters()}
    assert {id(p) for group in held.param_groups for p in group["params"]} == own
    assert {id(p) for p in held.state} == own
    moments = optimizer.state[model[0].weight]["exp_avg"]
    assert torch.equal(held.state[fixed[0].weight]["exp_avg"], moments)
    # the original, and its optimiser, are as they were
    assert seen(model) == before[0]
    assert str(optimizer.state_dict()) == str(before[1])
    # both train on alike; only the null bias of the original wanders
    assert trained(fixed, held, 10) == pytest.approx(trained(model, optimizer, 10))
    assert model[0].bias.any()
    if not gone:
        assert not fixed[0].bias.any()
    again, more = plumbob.fix(fixed, X, goal="training", mode=mode)
    assert not more.certificates
    assert not more.refused
    assert str(more) == "nothing to mend"
    for name, value in again.state_dict().items():
        assert torch.equal(value, fixed.state_dict()[name])


def test_what_is_frozen_at_zero_is_named_also_where_it_was_zero_before():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    nn.init.zeros_(model[0].bias)
    _, proof = plumbob.fix(model, torch.randn(8, 3), goal="training", mode="zero")
    (made,) = proof.certificates
    assert (made.removed, made.changed, made.frozen) == ((), (), ("0.bias",))
    assert proof.form.frozen == ("0.bias",)


def test_zeros_keep_modules_and_shapes():
    model = convolution().eval()
    fixed, proof = plumbob.fix(model, X, mode="zero")
    assert [c.code for c in proof.certificates] == ["PB301"]
    refused = {one.rewrite: one.why for one in proof.refused}
    assert refused["fold-batch-norm"].endswith("which mode='zero' keeps")
    shapes = {name: t.shape for name, t in model.state_dict().items()}
    assert {name: t.shape for name, t in fixed.state_dict().items()} == shapes


def test_it_is_told_as_a_table_of_fixed_width():
    _, proof = plumbob.fix(convolution(), X)
    lines = str(proof).splitlines()
    assert lines[0] == "mended for inference: 5 tensors removed"
    assert lines[1].split()[:3] == ["code", "rewrite", "places"]
    assert lines[2].split()[:4] == ["PB312", "fold-batch-norm", "1", "eval-only"]
    assert "  1: BatchNorm2d is now Identity" in lines
    assert max(map(len, lines)) <= 88
    assert lines[-1] == "445 parameters before, 437 after"


def test_side_effects_that_differ_in_names_are_summed_up():
    torch.manual_seed(0)
    layers = (part for _ in range(3) for part in (nn.Linear(4, 4), nn.BatchNorm1d(4)))
    model = nn.Sequential(*layers, nn.Tanh())
    _, proof = plumbob.fix(model, torch.randn(8, 4), goal="training")
    said = str(proof).splitlines()
    assert "  1.running_mean moves by the bias, and 2 more alike" in said
    chain = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)), nn.Tanh())
    options = {"mode": "zero", "select": "fold-stacked-bias"}
    _, proof = plumbob.fix(chain, torch.randn(8, 4), **options)
    said = str(proof).splitlines()
    assert (
        "  fold-stacked-bias: 2 biases go into 2 others, such as 0.bias into 1.bias"
        in said
    )
    (made,) = proof.certificates
    told = proof.manifest()["rewrites"][0]["side_effects"]
    assert told == made.side_effects
    assert "1.bias takes over what 0.bias gives up" in told
    assert "2.bias takes over what 1.bias gives up" in told


def test_the_manifest_has_what_proves_it_and_is_json():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    _, proof = plumbob.fix(model, torch.randn(8, 3), goal="training")
    told = json.loads(json.dumps(proof.manifest({"in": "sha256:0"}), allow_nan=False))
    assert (told["format"], told["goal"], told["mode"]) == (1, "training", "drop")
    assert told["torch"] == torch.__version__
    assert told["input"] == {"in": "sha256:0"}
    assert told["parameters"] == {"before": 24, "after": 20}
    (one,) = told["rewrites"]
    assert (one["code"], one["rewrite"]) == ("PB301", "drop-bias-before-batch-norm")
    assert one["removed"] == {"0.bias": {"shape": [4], "dtype": "float32"}}
    assert (one["places"], one["claim"], one["holds"]) == (["0.bias"], "exact", True)
    assert 0 <= one["identity_ulps"] < 16
    assert one["changed"] == ["1.running_mean"]
    assert "1.running_mean moves by the bias" in one["side_effects"]


@pytest.mark.parametrize("select", ["pb30", "bias-before-batch-norm"])
def test_a_rule_selects_its_rewrites(select):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    _, proof = plumbob.fix(model, torch.randn(8, 3), select=select)
    assert [c.rewrite for c in proof.certificates] == ["drop-bias-before-batch-norm"]


def test_a_rewrite_is_selected_by_its_name():
    _, proof = plumbob.fix(convolution(), X, select=["fold-batch-norm", "PB303"])
    assert [c.rewrite for c in proof.certificates] == ["fold-batch-norm"]


def test_a_deep_model_in_float64_is_mended():
    torch.manual_seed(0)
    layers = [
        nn.Linear(256, 256) if i % 2 else nn.BatchNorm1d(256) for i in range(1, 13)
    ]
    model = nn.Sequential(*layers).double()
    model(x := torch.randn(16, 256).double())
    _, proof = plumbob.fix(model, x, select="PB312")
    assert not proof.refused
    (made,) = proof.certificates
    assert 4 < made.stored_ulps < 2 * made.rounding < 100


def test_what_no_rule_reports_goes_by_the_name_of_its_rewrite():
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(4, bias=False), nn.Linear(4, 3))
    nn.init.normal_(model[0].weight)
    name, x = "fold-layer-norm-gamma", torch.randn(8, 4)
    fixed, proof = plumbob.fix(model, x, select=name)
    (made,) = proof.certificates
    assert (made.code, proof.manifest()["rewrites"][0]["code"]) == ("", "")
    assert str(made).startswith(f"{name}, eval-only: holds")
    assert str(proof).splitlines()[2].split()[:2] == ["-", name]
    gain = [line for line in diff(model, fixed, proof.certificates) if "- " in line]
    assert gain[0].endswith(f"  {name}")
    model[0].register_forward_hook(lambda *_: None)
    _, proof = plumbob.fix(model, x, select=name)
    (refusal,) = proof.refused
    assert str(refusal).startswith(f"0.weight: {name} refused, 0 has hooks")
    assert f"  0.weight: {name}: 0 has hooks" in str(proof)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"select": "PB301,drop-kee-bias"}, "Did you mean 'drop-key-bias'?"),
        ({"select": "PB399"}, r"got 'PB399'.* Did you mean 'PB3\d\d'"),
        ({"select": ""}, "got ''"),
        ({"goal": "trainig"}, "Did you mean 'training'?"),
        ({"mode": "remove"}, "the mode drop or zero, got 'remove'"),
    ],
)
def test_bad_options_are_told_before_anything_is_done(options, told):
    with pytest.raises(InputError, match=told):
        plumbob.fix(convolution(), X, **options)


def test_the_function_is_changed_only_on_demand():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].bias.fill_(-20.0)
    x = torch.randn(64, 6, generator=seeded())
    fixed, proof = plumbob.fix(model, x, unsafe=True, select="PB303")
    assert not proof.unsafe
    assert torch.equal(fixed[0].bias, model[0].bias)
    fixed, proof = plumbob.fix(model, x, unsafe=True)
    (one,) = proof.unsafe
    assert (one.code, one.site, one.act) == ("PB201", "0", "set-bias")
    assert "PB201 0: set-bias, which changes the function" in str(proof)
    assert proof.manifest()["unsafe"][0]["advice"]
    assert not torch.equal(fixed[0].bias, model[0].bias)


def test_rounding_is_counted_from_the_given_model():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    model = model.to(torch.bfloat16)
    x = torch.randn(2, 5, 16, dtype=torch.bfloat16)
    fixed, proof = plumbob.fix(model, x)
    assert len(proof.certificates) > 2
    folds = [c for c in proof.certificates if c.claim is Safety.EVAL_ONLY]
    assert len({c.rounding for c in folds}) == 1
    with torch.no_grad():
        truth = copy.deepcopy(model).double()(x.double())
        own, mended = ((m(x).double() - truth).abs().max() for m in (model, fixed))
    ulp = torch.finfo(torch.bfloat16).eps * truth.abs().max()
    assert mended <= max(2 * own, 4 * ulp)
    last = proof.certificates[-1]
    assert last.stored_ulps == pytest.approx(float(mended / ulp))
