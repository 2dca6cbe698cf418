import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import plumbob
from nets_optimizer import unsafe_clipping as case
from plumbob.rule import findings
from plumbob.rules.unsafe_clipping import unsafe_clipping
from plumbob.survey.seen import seen
from plumbob.types import Gradient, Needs, Optimizer, Severity, Step, Survey


@pytest.mark.parametrize(
    ("clipping", "nonfinite", "expected"),
    [
        ("spreads", 0, [Severity.INFO]),
        ("spreads", 3, [Severity.WARNING]),
        ("keeps", 3, []),
        ("asks", 3, []),
        (None, 3, []),
    ],
)
def test_severity_follows_the_gradients(clipping, nonfinite, expected):
    survey = Survey(
        sites=(),
        known=Needs.STEP | Needs.OPTIMIZER,
        optimizer=Optimizer(name="SGD", steps=0, groups=()),
        gradients={"w": Gradient(reached=True, nonfinite=nonfinite)},
        step=Step(samples=8, clipping=clipping),
    )
    assert [f.severity for f in findings(unsafe_clipping, survey)] == expected


def judged(hook):
    plumb = case(leans=False)
    plumb["optimizer"] = torch.optim.SGD(plumb["model"].parameters(), lr=0.1)
    plumb["optimizer"].register_step_pre_hook(hook)
    report = plumbob.check(**plumb, select="PB506")
    assert bool(report.findings) == (report.survey.step.clipping == "spreads")
    return report.survey.step.clipping


def of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_a_hook_that_asks_is_safe():
    def raises(optimizer, args, kwargs):
        clip_grad_norm_(of(optimizer), 1.0, error_if_nonfinite=True)

    def looks(optimizer, args, kwargs):
        if not clip_grad_norm_(of(optimizer), 1.0).isfinite():
            optimizer.zero_grad()

    assert judged(raises) == judged(looks) == "asks"


def test_a_hook_that_clips_by_norm_or_by_value_or_not_at_all():
    assert judged(lambda one, *_: clip_grad_norm_(of(one), 1.0)) == "spreads"
    assert judged(lambda one, *_: clip_grad_value_(of(one), 1.0)) == "keeps"
    assert judged(lambda one, *_: one.zero_grad()) is None


def test_no_hook_is_run_and_the_optimizer_is_left_as_it_was():
    plumb, ran = case(leans=False), []
    other = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam([*plumb["model"].parameters(), *other.parameters()])
    plumb["optimizer"] = optimizer

    def clips(optimizer, args, kwargs):
        norm = clip_grad_norm_(of(optimizer), 1.0)
        ran.append(float(norm))
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + float(norm))

    optimizer.register_step_pre_hook(clips)
    optimizer.register_step_post_hook(lambda *_: ran.append(1))
    other(torch.ones(3, 2)).sum().backward()
    before = seen(plumb["model"], optimizer)
    plumbob.check(**plumb, select="PB506")
    assert not ran
    assert seen(plumb["model"], optimizer) == before
