import pytest
from torch.nn.utils import clip_grad_norm_

import plumbob
from nets_optimizer import unsafe_clipping as case
from plumbob.rule import findings
from plumbob.rules.unsafe_clipping import unsafe_clipping
from plumbob.types import Gradient, Needs, Optimizer, Severity, Step, Survey


@pytest.mark.parametrize(
    ("clipping", "nonfinite", "expected"),
    [
        ("spreads", 0, [Severity.INFO]),
        ("spreads", 3, [Severity.WARNING]),
        ("keeps", 3, []),
        ("refuses", 3, []),
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


def test_a_hook_that_raises_is_safe():
    plumb = case(leans=False)

    def hook(optimizer, args, kwargs):
        held = [p for group in optimizer.param_groups for p in group["params"]]
        clip_grad_norm_(held, 1.0, error_if_nonfinite=True)

    plumb["optimizer"].register_step_pre_hook(hook)
    report = plumbob.check(**plumb, select="PB506")
    assert report.survey.step.clipping == "refuses"
    assert not report.findings


def test_other_hooks_are_not_run():
    plumb, ran = case(leans=False), []
    plumb["optimizer"].register_step_pre_hook(lambda *_: ran.append(1))
    plumb["optimizer"].register_step_post_hook(lambda *_: ran.append(1))
    plumbob.check(**plumb, select="PB506")
    assert not ran
