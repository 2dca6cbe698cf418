from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from nets_loss import prior_counted_twice as zoo
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.prior_counted_twice import prior_counted_twice
from plumbob.types import Loss, Needs, Output, Reading, Rows, Site, Survey

LOSS = Loss(samples=99, batch=99, units=1, targets="binary", wants="scores")


def survey(*, bias, best, share=1.0, rate=0.02, loss=LOSS, fan_in=2):
    head = Site(name="head", kind="linear", out=1, fan_in=fan_in, weight="w", bias="b")
    rows = Rows(
        norm=np.ones(1),
        columns=np.ones(2),
        twin=np.zeros(1, int),
        bias=np.array([float(bias)]),
    )
    output = Output(
        site="head",
        loss=1 + share,
        shifted=1.0,
        zero=1.0,
        constant=1.0,
        floor=0.0,
        shift=np.array([float(best - bias)]),
        best=np.array([float(best)]),
        mean_output=np.array([float(bias)]),
        mean_target=np.array([rate]),
        samples=99,
    )
    return Survey(
        sites=(head,),
        known=Needs.LOSS | Needs.TARGETS,
        readings={"head": Reading(rows=rows)},
        output=output,
        loss=loss,
    )


def severity(**facts):
    return [f.severity.name for f in findings(prior_counted_twice, survey(**facts))]


PRIOR = float(np.log(0.02 / 0.98))


@pytest.mark.parametrize(
    ("facts", "severities"),
    [
        ({"bias": PRIOR, "best": 0}, ["INFO"]),
        ({"bias": PRIOR, "best": 0, "share": 5.1}, ["WARNING"]),
        ({"bias": PRIOR, "best": 0, "share": 4.9}, ["INFO"]),
        ({"bias": PRIOR, "best": 0, "share": 0.09}, []),
        (
            {"bias": PRIOR, "best": 0, "share": 0.11},
            ["INFO"],
        ),
        ({"bias": PRIOR, "best": PRIOR}, []),  # a loss without weights
        ({"bias": PRIOR, "best": PRIOR + 0.39}, []),
        ({"bias": PRIOR, "best": PRIOR + 0.41}, ["INFO"]),
        ({"bias": 0, "best": 0}, []),
        ({"bias": 0.76 * PRIOR, "best": 0}, ["INFO"]),
        ({"bias": 0.74 * PRIOR, "best": 0}, []),  # something else
        ({"bias": PRIOR, "best": 0, "loss": replace(LOSS, wants="numbers")}, []),
        ({"bias": PRIOR, "best": 0, "loss": replace(LOSS, targets=None)}, []),
        # all but balanced: nobody's prior, be the bias drawn or zero
        ({"bias": 0.055, "best": 1.08, "rate": 0.495, "fan_in": 64}, []),
        ({"bias": -0.02, "best": 1.08, "rate": 0.495, "fan_in": 64}, []),
        ({"bias": 0, "best": -22.4, "rate": 0.2}, []),
        ({"bias": -0.4, "best": 1.08, "rate": 0.405, "fan_in": 64}, []),
        ({"bias": -0.41, "best": 1.08, "rate": 0.398, "fan_in": 64}, ["INFO"]),
        # nearer than one of a hundred that are drawn among -1/2 to 1/2, or not
        ({"bias": -0.43, "best": 1.08, "rate": 0.398, "fan_in": 4}, []),
        ({"bias": -0.412, "best": 1.08, "rate": 0.398, "fan_in": 4}, ["INFO"]),
        ({"bias": PRIOR, "best": 0, "rate": 1.0}, []),  # the targets are all the same
    ],
)
def test_edges(facts, severities):
    assert severity(**facts) == severities


def classes(*, weighted, prior, adjusted=False):
    """Three classes, 90, 8 and 2 %, balanced by weights or by added logits."""
    shares = torch.tensor([0.9, 0.08, 0.02])
    y = torch.repeat_interleave(torch.arange(3), (400 * shares).round().long())
    y = y[torch.randperm(400, generator=seeded(1))]
    model = mlp(8, 16, 3)
    model[2].weight.data *= 0.1
    if prior:
        model[2].bias.data = shares.log()
    loss = nn.CrossEntropyLoss(weight=1 / shares if weighted else None)

    def adjusts(outputs, targets):
        return loss(outputs + shares.log().to(outputs), targets)

    x = torch.randn(400, 8, generator=seeded())
    return {
        "model": model,
        "data": x,
        "targets": y,
        "loss": adjusts if adjusted else loss,
    }


@pytest.mark.parametrize(
    ("options", "fires"),
    [
        ({"weighted": True, "prior": True}, True),
        ({"weighted": False, "prior": True, "adjusted": True}, True),
        ({"weighted": True, "prior": False}, False),
        ({"weighted": False, "prior": True}, False),
        ({"weighted": False, "prior": False, "adjusted": True}, False),
    ],
)
def test_weights_and_added_logits(options, fires):
    found = plumbob.check(**classes(**options)).findings
    named = [f for f in found if f.code == "PB606"]
    assert bool(named) is fires


@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_bias_is_no_prior(seed):
    torch.manual_seed(seed)
    x = torch.randn(400, 8, generator=seeded())
    y = (torch.arange(400) % 2.0)[torch.randperm(400, generator=seeded(1))][:, None]
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(9.0))
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    for model in (net, net.append(nn.Sigmoid())):  # the second is PB602
        report = plumbob.check(model, x, targets=y, loss=loss)
        assert "PB606" not in [f.code for f in report.findings]


def test_the_remedy_brings_the_bias_to_what_the_loss_wants():
    case = zoo(leans=True)
    (one,) = plumbob.check(**case).findings
    assert one.evidence["prior"] == pytest.approx(PRIOR)
    mended = plumbob.apply(one, case["model"])
    # the best shift of the outputs, with the little that the weights add
    assert mended[2].bias.item() == pytest.approx(0, abs=0.3)
