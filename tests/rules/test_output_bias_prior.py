from dataclasses import replace

import numpy as np
import pytest
import torch

import healthy_transformers  # ruff: ignore[unused-import] (adds its families)
import plumbob
from healthy import FAMILIES
from plumbob.design import initialise_
from plumbob.rule import findings
from plumbob.rules.output_bias_prior import output_bias_prior
from plumbob.types import Needs, Output, Severity, Site, Stage, Survey


def survey(stage=Stage.UNKNOWN, shift=(1.0,), **losses):
    facts = Output(
        site="head",
        shift=np.array(shift),
        best=np.array(shift),
        mean_output=np.zeros(len(shift)),
        samples=100,
        **{name: float(value) for name, value in losses.items()},
    )
    head = Site(
        name="head", kind="linear", out=1, fan_in=2, weight="w", bias="b", stage=stage
    )
    return Survey(sites=(head,), known=Needs.TARGETS, output=facts)


def trained_by_word(survey):
    (site,) = survey.sites
    site = replace(site, stage=Stage.TRAINED)
    return replace(survey, sites=(site,), said=Stage.TRAINED)


def fires(stage=Stage.UNKNOWN, **losses):
    return bool(list(findings(output_bias_prior, survey(stage, **losses))))


@pytest.mark.parametrize("stage", [Stage.INIT, Stage.UNKNOWN])
@pytest.mark.parametrize(
    ("losses", "leans"),
    [
        ({"loss": 1.51, "shifted": 1, "zero": 1.51, "constant": 1}, True),
        ({"loss": 1.49, "shifted": 1, "zero": 1.51, "constant": 1}, False),
        # a random start that is off by itself, with balanced classes
        ({"loss": 4.00, "shifted": 1, "zero": 1.00, "constant": 1}, False),
        # the offset is there already
        ({"loss": 1.00, "shifted": 1, "zero": 9.00, "constant": 1}, False),
        # so few samples show as much by chance
        (
            {"loss": 1.6, "shifted": 1, "zero": 1.6, "constant": 1, "chance": 0.11},
            False,
        ),
    ],
)
def test_untrained(stage, losses, leans):
    assert fires(stage, **losses) == leans


@pytest.mark.parametrize(("loss", "leans"), [(0.151, True), (0.149, False)])
def test_a_trained_model_is_judged_by_its_own_mean_only(loss, leans):
    losses = {"loss": loss, "shifted": 0.1, "zero": 1.0, "constant": 1.0}
    assert fires(Stage.TRAINED, **losses) == leans
    assert not fires(Stage.UNKNOWN, **losses)


def test_a_warning_only_where_the_user_said_that_training_is_over():
    facts = survey(Stage.TRAINED, loss=0.2, shifted=0.1, zero=1.0, constant=1.0)
    (stepped,) = findings(output_bias_prior, facts)
    assert stepped.severity is Severity.INFO
    assert stepped.cause.endswith("which is common until training is over")
    (over,) = findings(output_bias_prior, trained_by_word(facts))
    assert over.severity is Severity.WARNING
    assert over.cause.endswith("does not agree with the targets")
    nowhere = replace(facts, sites=(), output=replace(facts.output, site=None))
    assert not list(findings(output_bias_prior, nowhere))
    nowhere = replace(nowhere, said=Stage.TRAINED)
    (found,) = findings(output_bias_prior, nowhere)
    assert found.severity is Severity.WARNING


def test_a_far_start_is_a_warning_after_its_first_steps_too():
    facts = survey(Stage.TRAINED, loss=9, shifted=1, zero=9, constant=1)
    (found,) = findings(output_bias_prior, facts)
    assert found.severity is Severity.WARNING


def test_classes_that_do_not_occur_are_left_out_of_the_advice():
    facts = survey(shift=(0.5, -0.5, -30), loss=9, shifted=1, zero=9, constant=1)
    seen = replace(facts.output, mean_target=np.array([0.4, 0.6, 0.0]))
    (found,) = findings(output_bias_prior, replace(facts, output=seen))
    assert "at the 2 units of 3 that the targets name (+0.5 at unit 0)" in (
        found.remedy.advice
    )


@pytest.mark.parametrize(("gain", "leans"), [(0.31, True), (0.29, False)])
def test_a_loss_that_can_be_negative_is_scaled_by_its_dispersion(gain, leans):
    losses = {"loss": -9 + gain, "shifted": -9, "zero": -9 + gain, "constant": -9}
    assert fires(chance=0.01, **losses) == leans  # 0.25 + what luck gives, 0.056
    assert not fires(chance=0.0118, **losses)


def test_luck_is_the_quantile_of_chi_squared():
    from scipy.stats import chi2

    for units in (1, 2, 10, 100):
        facts = survey(
            shift=np.ones(units), loss=9, shifted=1, zero=9, constant=1, chance=0.02
        )
        (found,) = findings(output_bias_prior, facts)
        expected = 0.01 * chi2.ppf(0.999, units) / units
        assert found.evidence["luck"] == pytest.approx(expected, rel=0.04)


def test_the_advice_names_the_shift():
    losses = {"loss": 2.0, "shifted": 1.0, "zero": 2.0, "constant": 1.0}
    (one,) = findings(output_bias_prior, survey(shift=(-4.595,), **losses))
    assert one.remedy.advice == "Add -4.595 to the output's bias."
    (two,) = findings(output_bias_prior, survey(shift=(0.1, -3.0), **losses))
    assert "(-3 at unit 1)" in two.remedy.advice


def test_what_is_left_to_learn_begins_at_the_floor():
    """The origin of a loss does not count: the same losses, 360 lower."""
    losses = {"loss": 1.51, "shifted": 1, "zero": 1.51, "constant": 1, "floor": 0}
    assert fires(**losses)
    assert fires(**{name: value - 360 for name, value in losses.items()})
    assert not fires(**losses | {"floor": -1})


def rare(name):
    """Return a random transformer, and data of which 91 % are of its first class."""
    torch.manual_seed(0)
    training, draws = FAMILIES[name](0), torch.Generator().manual_seed(1)
    classes = training.model.config.num_labels
    shares = torch.tensor([0.91] + (classes - 1) * [0.09 / (classes - 1)])
    data = []
    for batch in training.batches:
        count = len(batch.pop("labels"))
        data.append((batch, shares.multinomial(count, True, generator=draws)))
    return training.model.eval(), data


def cross_entropy(output, y):
    return torch.nn.functional.cross_entropy(output.logits, y)


@pytest.mark.parametrize(("name", "inside"), [("bert", False), ("vit", True)])
def test_rare_classes_of_a_transformer_are_told_of_and_mended(name, inside):
    """Also where the model takes its loss itself."""
    model, data = rare(name)
    case = {"data": data, "loss": cross_entropy}
    if inside:
        case = {"data": [{**x, "labels": y} for x, y in data]}
    options = {"select": ["PB601"], "stage": "init"}
    report = plumbob.check(model, **case, **options)
    (found,) = report.findings
    assert found.site == "classifier"
    assert found.remedy.act == "shift-bias"
    mended = plumbob.apply(report, model)
    again = plumbob.check(mended, **case, **options)
    assert not again.findings
    low = found.evidence["shifted"]
    assert again.survey.output.loss == pytest.approx(low, rel=0.01)
    done = initialise_(model, **case)
    (row,) = (row for row in done.rows if row.site == "classifier")
    assert "b at the targets' prior" in row.what
