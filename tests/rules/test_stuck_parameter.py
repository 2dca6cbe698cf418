from dataclasses import replace

import pytest
import torch
from torch import nn

import plumbob
from nets_optimizer import stuck_parameter as case
from nets_optimizer import task
from netting import mlp
from plumbob.rule import findings
from plumbob.rules.stuck_parameter import stuck_parameter
from plumbob.types import (
    Census,
    Group,
    Move,
    Needs,
    Optimizer,
    Severity,
    Site,
    Stage,
    Step,
    Survey,
)

STILL = Move(pulled=100, still=51, broken=0, change=1.0, size=1.0)


def survey(move, *, dtype="bfloat16", lr=0.1, steps=0, warming=False, trainable=True):
    site = Site(
        name="fc",
        kind="linear",
        out=1,
        fan_in=1,
        weight="fc.weight",
        stage=Stage.INIT,
    )
    return Survey(
        sites=(site,),
        known=Needs.STEP | Needs.OPTIMIZER | Needs.WEIGHTS,
        tensors={
            "fc.weight": Census(
                shape=(1, 100), dtype=dtype, count=100, trainable=trainable
            )
        },
        optimizer=Optimizer(
            name="SGD",
            steps=steps,
            groups=(Group(parameters=("fc.weight",), lr=lr),),
        ),
        step=Step(samples=8, moves={"fc.weight": move}, warming=warming),
    )


def severities(*args, **facts):
    return [f.severity for f in findings(stuck_parameter, survey(*args, **facts))]


@pytest.mark.parametrize(
    ("move", "facts", "expected"),
    [
        ({}, {}, [Severity.WARNING]),
        ({"still": 50}, {}, []),
        ({}, {"steps": 1}, [Severity.INFO]),
        ({}, {"warming": True}, [Severity.INFO]),
        ({}, {"dtype": "float32"}, []),  # a small gradient is other rules' matter
        ({"broken": 1}, {}, [Severity.ERROR]),
        ({"still": 100}, {"lr": 0.0}, [Severity.INFO]),
        ({"pulled": 0, "still": 0}, {"lr": 0.0}, []),  # a branch that begins at zero
        ({"pulled": 0, "still": 0}, {"trainable": False}, [Severity.INFO]),
        ({"pulled": 0, "still": 0, "change": 0.0}, {"trainable": False}, []),
    ],
)
def test_what_a_step_leaves_as_it_was(move, facts, expected):
    assert severities(replace(STILL, **move), **facts) == expected


def test_adam_in_half_precision_divides_zero_by_zero():
    net = mlp(8, 16, 3).half()
    given = task(dtype=torch.float16)
    given["data"][:, 0] = 0  # the weights that read it have no gradient: 0 / 0
    given["data"] *= 1e-3  # squares of gradients vanish
    given["loss"] = lambda out, target: nn.functional.cross_entropy(out.float(), target)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, foreach=False)
    report = plumbob.check(net, **given, optimizer=adam, select="PB507")
    assert [f.severity for f in report.findings] == [Severity.ERROR]


def test_the_zoo_moves_in_float32():
    leans = plumbob.check(**case(leans=True), select="PB507")
    (found,) = leans.findings
    assert found.evidence["share"] > 0.9
    moves = plumbob.check(**case(leans=False), select="PB507").survey.step.moves
    assert sum(m.still for m in moves.values()) < sum(m.pulled for m in moves.values())
