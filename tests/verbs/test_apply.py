"""`apply`: what remedies say is done, and nothing else."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from nets import ZOO, dead_relu, mlp, output_bias_prior, seeded
from plumbob.errors import InputError
from plumbob.types import Finding, Remedy, Safety


def everything(model):
    """Return all that may be seen of a model, and of the process."""
    return [
        {n: t.clone() for n, t in model.state_dict().items()},
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        {n: (id(p), p.requires_grad) for n, p in model.named_parameters()},
        [(m.training, list(m._forward_pre_hooks)) for m in model.modules()],
        torch.get_rng_state(),
        np.random.get_state()[1],
    ]


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def finding(act=None, site="0", **arguments):
    safety = Safety.CHANGES_TRAINING if act else Safety.MANUAL
    remedy = Remedy(advice="Mend.", safety=safety, act=act, arguments=arguments)
    facts = {"message": "", "cause": "", "evidence": {}, "code": "PB999"}
    return Finding(**facts, remedy=remedy, site=site)


def breaks(model, optimizer=None):
    """Be an act that fails half-way."""
    with torch.no_grad():
        model[0].weight.zero_()
    model[0].bias = None
    if optimizer is not None:
        next(iter(optimizer.state.values()))["momentum_buffer"].zero_()
        optimizer.param_groups.pop()
        optimizer.param_groups[0]["lr"] = 0.0
    raise RuntimeError("half-way")


def trained():
    """Return a model with gradients and momenta, with its optimiser of two groups."""
    model = mlp(4, 8, 2)
    groups = [{"params": layer.parameters()} for layer in (model[0], model[2])]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    model(torch.randn(5, 4, generator=seeded())).square().sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize(
    "code", ["PB101", "PB106", "PB201", "PB205", "PB301", "PB502", "PB601"]
)
def test_the_given_model_is_untouched_and_what_was_applied_is_gone(code):
    case = ZOO[code](leans=True)
    model, held = case["model"].eval(), case.get("optimizer")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    report = plumbob.check(**case)
    before, told = everything(model), []
    done = plumbob.apply(report, model, optimizer=held, tell=told.append)
    mended, other = done if held else (done, None)
    same(everything(model), before)
    assert mended is not model
    assert not mended.training
    now = plumbob.check(
        **case | {"model": mended} | ({"optimizer": other} if held else {})
    )
    left = {(f.code, f.site) for f in now.findings}
    for f in report.findings:
        line = f"{f.code} {f.site or '(model)'}: {f.remedy.act}"
        assert ((f.code, f.site) in left) is (line not in told)


def test_in_place_is_the_model_itself():
    case = dead_relu(leans=True)
    model, bias = case["model"], case["model"][2].bias
    report = plumbob.check(**case)
    copied = plumbob.apply(report, model)
    assert plumbob.apply(report, model, in_place=True) is model
    assert model[2].bias is bias
    same(copied.state_dict(), model.state_dict())
    assert not plumbob.check(**case).findings


def test_a_copied_optimiser_holds_the_copied_model():
    case = ZOO["PB501"](leans=True)
    report = plumbob.check(**case)
    groups = len(case["optimizer"].param_groups)
    model, optimizer = plumbob.apply(report, case["model"], optimizer=case["optimizer"])
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert len(optimizer.param_groups) == 2
    assert len(case["optimizer"].param_groups) == groups


def test_one_finding_alone():
    case = output_bias_prior(leans=True)
    (found,) = plumbob.check(**case).findings
    mended = plumbob.apply(found, case["model"])
    assert "PB601" not in {
        f.code for f in plumbob.check(**case | {"model": mended}).findings
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (finding(), "PB999 0: cannot be applied: by hand: Mend"),
        (finding("split-groups", parameters=("0.bias",)), "give it as optimizer="),
        (finding("set-bais"), "an act of add-parameters, .* got 'set-bais'"),
        (finding("set-bias", parameter="9.bias", units=(0,), values=(1.0,)), "9.bias"),
        ("PB201", "expected a report or findings, got str"),
        (7, "expected a report or findings, got int"),
    ],
)
def test_what_cannot_be_applied_is_said(given, says):
    with pytest.raises(InputError, match=says):
        plumbob.apply(given, mlp(4, 8, 2))


def test_no_model():
    with pytest.raises(InputError, match="expected the model that was checked"):
        plumbob.apply(finding(), "model.safetensors")


def test_a_scripted_model():
    case = dead_relu(leans=True)
    report = plumbob.check(**case)
    with pytest.warns(DeprecationWarning, match=r"jit\.trace"):
        scripted = torch.jit.trace(case["model"], case["data"])
    for given in (report, finding("set-bias")):
        with pytest.raises(InputError, match=r"got a \w+, whose .* before torch.jit"):
            plumbob.apply(given, scripted)


def test_no_optimiser():
    with pytest.raises(InputError, match=r"expected a torch optimiser .* got int"):
        plumbob.apply([], mlp(4, 8, 2), optimizer=3)


@pytest.mark.parametrize("code", ["PB201", "PB203", "PB205", "PB206", "PB106", "PB601"])
def test_a_report_is_not_followed_twice(code):
    case = ZOO[code](leans=True)
    report = plumbob.check(**case)
    once = plumbob.apply(report, case["model"])
    told = []
    twice = plumbob.apply(report, once, tell=told.append)
    same(twice.state_dict(), once.state_dict())
    assert all(": left, " in line for line in told)
    assert any("changed since the check: check again" in line for line in told)
    again = plumbob.apply(report, copy.deepcopy(case["model"]))
    same(again.state_dict(), once.state_dict())


def test_after_training_a_report_is_old_but_for_the_optimisers_groups():
    case = dead_relu(leans=True)
    optimizer = torch.optim.AdamW(case["model"].parameters(), weight_decay=1.0)
    report = plumbob.check(**case, optimizer=optimizer)
    assert {f.code for f in report.findings} == {"PB201", "PB501"}
    with torch.no_grad():
        for parameter in case["model"].parameters():
            parameter.add_(0.5)
    told = []
    plumbob.apply(report, case["model"], optimizer=optimizer, tell=told.append)
    assert sorted(told) == [
        "PB201 2: left, 2 changed since the check: check again",
        "PB204 2: left, PB201 explains it",
        "PB501 (model): split-groups",
    ]


def test_a_report_of_another_model():
    report = plumbob.check(**dead_relu(leans=True))
    with pytest.raises(InputError, match=r"0.weight of shape \[16, 8\].* \[8, 4\]"):
        plumbob.apply(report, mlp(4, 8, 2))
    with pytest.raises(InputError, match="got ModuleDict with none"):
        plumbob.apply(report, nn.ModuleDict({"a": nn.Linear(1, 1)}))


def test_what_cannot_be_copied_is_said():
    case = dead_relu(leans=True)
    report = plumbob.check(**case)
    case["model"].cache = case["model"][0].weight * 2  # not a leaf
    with pytest.raises(InputError, match=r"cannot be copied .*in_place=True"):
        plumbob.apply(report, case["model"])
    assert plumbob.apply(report, case["model"], in_place=True) is case["model"]


def test_a_report_without_remedies_gives_the_same_model():
    case = ZOO["PB405"](leans=True)
    told = []
    mended = plumbob.apply(plumbob.check(**case), case["model"], tell=told.append)
    same(mended.state_dict(), case["model"].state_dict())
    assert told[0].startswith("PB405 0: left, by hand: Look for detach")
    assert mended is not case["model"]


def test_a_failure_half_way_leaves_model_and_optimiser_as_found():
    model, optimizer = trained()
    first = finding("set-bias", parameter="2.bias", units=(0,), values=(9.0,), site="2")
    before, state = everything(model), copy.deepcopy(optimizer.state_dict())
    for held, act in ((optimizer, "breaks"), (None, "breaks")):
        second = finding(f"{__name__}:{act}")
        with pytest.raises(RuntimeError, match="half-way"):
            plumbob.apply([first, second], model, optimizer=held, in_place=True)
        same(everything(model), before)
        same(optimizer.state_dict(), state)
    with pytest.raises(RuntimeError, match="half-way"):
        plumbob.apply([first, second], model, optimizer=optimizer)
    same(everything(model), before)
    same(optimizer.state_dict(), state)


def test_one_of_several_that_is_refused_is_told_and_the_others_are_followed():
    good = finding("set-bias", parameter="2.bias", units=(0,), values=(9.0,), site="2")
    bad = finding("set-bias", parameter="0.bias", units=(99,), values=(1.0,))
    with pytest.warns(UserWarning, match="PB999 0: left, .* units from 0 to 7"):
        mended = plumbob.apply([bad, good], mlp(4, 8, 2))
    assert mended[2].bias[0] == 9


def test_the_first_of_two_at_one_site_is_followed():
    told = []
    some = [
        finding("set-bias", parameter="0.bias", units=(0,), values=(value,))
        for value in (1.0, 2.0)
    ]
    mended = plumbob.apply(some, mlp(4, 8, 2), tell=told.append)
    assert mended[0].bias[0] == 1
    assert told[1] == "PB999 0: left, PB999 changes 0: check again"


def test_what_was_measured_behind_a_change_waits():
    """Biases at both layers: the second's w.mu is another once the first is mended."""
    model = mlp(8, 64, 64, 2)
    for layer in (model[0], model[2]):
        nn.init.constant_(layer.bias, 9.0)
    case = {"model": model, "data": torch.randn(256, 8, generator=seeded())}
    report = plumbob.check(**case)
    done, told = 0, []
    while report.findings:
        model = plumbob.apply(report, model, tell=told.append)
        report = plumbob.check(**case | {"model": model})
        done += 1
    assert done == 2
    assert sum(line.endswith(": set-bias") for line in told) == 2


def test_consequences_are_left_to_their_root():
    root = finding("set-bias", parameter="0.bias", units=(0,), values=(1.0,))
    folded = finding(
        "set-bias", parameter="2.bias", units=(0,), values=(1.0,), site="2"
    )
    told = []
    mended = plumbob.apply(
        [replace(root, consequences=(folded,))], mlp(4, 8, 2), tell=told.append
    )
    assert told == ["PB999 0: set-bias", "PB999 2: left, PB999 explains it"]
    assert (mended[0].bias[0], mended[2].bias[0]) == (1, 0)


@pytest.mark.parametrize("in_place", [True, False])
def test_what_was_compiled_and_run_is_compiled_again(in_place):
    model = mlp(4, 8, 2)
    x = torch.randn(8, 4, generator=seeded()) + 3
    compiled = torch.compile(model, backend="eager")
    before = compiled(x)
    centre = finding("fold-centring", mean=(3.0,) * 4, keep=True)
    centre.remedy.arguments["site"] = "0"
    mended = plumbob.apply(centre, compiled, in_place=in_place)
    assert (mended is compiled) is in_place
    inner = mended._orig_mod
    assert inner[0].input_mean.tolist() == [3.0] * 4
    torch.testing.assert_close(mended(x), before)
    torch.testing.assert_close(compiled(x), before)


def test_a_compiled_model_is_unwrapped():
    case = dead_relu(leans=True)
    report = plumbob.check(**case)
    compiled = torch.compile(case["model"])
    plumbob.apply(report, compiled, in_place=True)
    assert not plumbob.check(**case).findings
