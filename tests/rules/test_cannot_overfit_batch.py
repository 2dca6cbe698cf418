from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

import plumbob
from nets_inputs import binary, cannot_overfit_batch
from netting import mlp
from plumbob.rule import findings
from plumbob.rules.cannot_overfit_batch import cannot_overfit_batch as rule
from plumbob.types import Needs, Overfit, Survey, Try

ADAM = Try(optimizer="Adam", own=False, lr=1e-3, steps=300, half=0.5, low=0.5)
OWN = replace(ADAM, optimizer="SGD", own=True, lr=0.1)
KNOWN = Overfit(samples=32, first=1.5, goal=0.5, tries=(), constant=1.0, floor=0.0)
UNKNOWN = replace(KNOWN, first=1.0, goal=0.9, constant=None, floor=None)


def severities(facts, *tries):
    survey = Survey(sites=(), known=Needs(0), overfit=replace(facts, tries=tries))
    return [f.severity.name for f in findings(rule, survey)]


@pytest.mark.parametrize(
    ("facts", "lows", "told"),
    [
        (KNOWN, (0.5,), []),
        (KNOWN, (0.51,), ["WARNING"]),
        (KNOWN, (0.99, 0.89), ["WARNING"]),
        (KNOWN, (0.99, 0.91), ["ERROR"]),
        (KNOWN, (1.4,), ["ERROR"]),
        (UNKNOWN, (0.9,), []),
        (UNKNOWN, (0.998,), ["INFO"]),
        (UNKNOWN, (0.9995,), ["WARNING"]),
        (replace(KNOWN, constant=0.5, floor=0.5), (0.51,), []),
        (replace(UNKNOWN, first=0.0, goal=0.0), (0.1,), []),
    ],
)
def test_what_is_told_where_no_optimiser_gets_there(facts, lows, told):
    assert severities(facts, *(replace(ADAM, low=low) for low in lows)) == told


@pytest.mark.parametrize(
    ("half", "low", "told"),
    [
        (0.5, 0.5, []),
        (0.6, 0.6, ["INFO"]),
        (0.91, 0.905, ["WARNING"]),  # stuck at the constant
        (0.92, 0.905, ["INFO"]),  # under way
        (1.499, 1.495, ["WARNING"]),
        (1.5, 1.48, ["INFO"]),
    ],
)
def test_an_optimiser_that_alone_is_in_the_way(half, low, told):
    tries = [replace(OWN, half=half, low=low), *([ADAM] if told else [])]
    assert severities(KNOWN, *tries) == told


def test_only_its_whole_code_or_name_asks_for_it():
    case = cannot_overfit_batch(leans=False)
    for select in (None, "PB60"):
        report = plumbob.check(**case, select=select)
        assert report.survey.overfit is None
        assert "PB608" not in report.not_judged
    for select in ("PB608", "pb608", "cannot-overfit-batch"):
        assert plumbob.check(**case, select=select).survey.overfit is not None
    report = plumbob.check(case["model"], case["data"], select="PB608")
    assert report.not_judged == {"PB608": "needs overfit (no loss given)"}


def told(model, x, y, loss=binary_cross_entropy_with_logits, **given):
    lines = []
    report = plumbob.check(
        model, x, targets=y, loss=loss, select="PB608", progress=lines.append, **given
    )
    assert any("step 0 of 300" in line for line in lines)
    return report.survey.overfit, [f.severity.name for f in report.findings]


def test_targets_that_the_inputs_do_not_tell_are_learnt_by_heart():
    x, y = binary()
    facts, severe = told(mlp(8, 64, 1), x, y[torch.randperm(64)])
    assert (facts.samples, severe) == (32, [])
    assert facts.constant == pytest.approx(0.693, abs=0.02)
    assert facts.goal == pytest.approx(facts.constant * 0.75, abs=1e-6)


def test_dropout_and_a_summed_loss_keep_nothing_from_being_learnt():
    x, y = binary()
    model = nn.Sequential(mlp(8, 64, 64), nn.Dropout(0.5), nn.ReLU(), mlp(64, 1))
    loss = nn.BCEWithLogitsLoss(reduction="sum")
    facts, severe = told(model.eval(), x, y, loss)
    assert not severe
    assert facts.constant == pytest.approx(32 * 0.693, rel=0.05)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("optimizer", "severe"),
    [
        (lambda p: torch.optim.SGD(p, 1e-7), ["WARNING"]),
        (lambda p: torch.optim.SGD(p, 2e-4), ["INFO"]),
        (lambda p: torch.optim.SGD(p, 1e6), ["WARNING"]),
        (lambda p: torch.optim.LBFGS(p), []),
    ],
)
def test_the_optimiser_as_given(optimizer, severe):
    x, y = binary()
    model = mlp(8, 64, 1)
    before = [p.clone() for p in model.parameters()]
    made = optimizer(model.parameters())
    assert told(model, x, y, optimizer=made)[1] == severe
    assert all(map(torch.equal, before, model.parameters()))


def test_a_warm_up_is_tried_at_its_full_rate():
    x, y = binary()
    model = mlp(8, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    torch.optim.lr_scheduler.LinearLR(optimizer, 1e-6)
    facts, severe = told(model, x, y, optimizer=optimizer)
    assert not severe
    assert [one.lr for one in facts.tries] == [0.01]


def test_where_a_constant_is_as_good_as_any_output_its_loss_is_no_measure():
    x, y = binary()
    report = plumbob.check(
        mlp(8, 16, 1),
        x,
        targets=y,
        loss=lambda o, t: (o.mean() - t.mean()).square(),
        select="PB608",
    )
    assert not report.crashed
    assert not report.findings
    assert report.survey.overfit.constant is None


def test_steps_to_where_the_loss_refuses_the_outputs_are_steps_too_long():
    def root(o, t):
        if bool((o < 0).any()):
            raise ValueError("below 0")
        return (o.sqrt() - t).square().mean()

    x, y = binary()
    model = mlp(8, 64, 1)
    with torch.no_grad():
        model[-1].weight.mul_(0.01)
        model[-1].bias.fill_(1.0)
    facts, severe = told(
        model, x, 1 + y, root, optimizer=torch.optim.SGD(model.parameters(), 1e3)
    )
    own, *others = facts.tries
    assert own.own
    assert own.steps < 5
    assert others[-1].low <= facts.goal
    assert severe == ["WARNING"]


def test_no_more_samples_than_the_parameters_can_learn():
    x, _ = binary()
    facts, severe = told(mlp(8, 3, 1), x, x[:, :1], mse_loss)
    assert (facts.samples, severe) == (15, [])
    report = plumbob.check(
        nn.Linear(8, 1), x, targets=x[:, :1], loss=mse_loss, select="PB608"
    )
    why = "too few parameters to learn so many samples by heart"
    assert report.not_judged == {"PB608": f"needs overfit ({why})"}
