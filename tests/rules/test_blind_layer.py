from dataclasses import replace

import numpy as np
import pytest

from hand import one
from nets_activations import blind_layer as case
from plumbob.rule import findings
from plumbob.rules.blind_layer import blind_layer
from plumbob.survey.measure import measure
from plumbob.types import Activity, Severity, Site


def gates(*rates, samples=1000):
    """z is 1 for the first share of the samples and -1 for the rest, unit by unit."""
    at = (np.arange(samples) + 0.5)[:, None] / samples
    return np.where(at < np.array(rates), 1.0, -1.0)


def found(*rates, **site):
    survey = one(gates(*rates), **{"activation": "relu", "reads_input": False} | site)
    return list(findings(blind_layer, survey))


def h2(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


@pytest.mark.parametrize(("rate", "fires"), [(0.012, True), (0.014, False)])
def test_mean_bits(rate, fires):
    """h2(0.013) is a tenth of a bit."""
    told = found(*[rate, 1 - rate] * 4)
    assert bool(told) is fires
    if fires:
        assert told[0].evidence["bits"] == pytest.approx(h2(rate))
        assert told[0].evidence["total"] == pytest.approx(8 * h2(rate))
        assert told[0].evidence["same"] == pytest.approx(1 - 8 * rate)
        assert (told[0].evidence["open"], told[0].evidence["shut"]) == (4, 4)


@pytest.mark.parametrize(("units", "fires"), [(99, True), (101, False)])
def test_a_sparse_code_is_not_blind(units, fires):
    """Of 101 units with rate 0.01 more than one is open on average."""
    assert bool(found(*[0.01] * units)) is fires


@pytest.mark.parametrize(
    ("shut", "severity"), [(8, Severity.INFO), (9, Severity.WARNING)]
)
def test_a_warning_where_nine_tenths_are_shut(shut, severity):
    z = gates(*[0.002] * shut, *[0.998] * (10 - shut))
    survey = replace(one(z, bias=z.mean(0), activation="relu"), bends=("softmax",))
    assert [f.severity for f in findings(blind_layer, survey)] == [severity]


def test_info_where_the_bias_is_not_the_cause():
    survey = one(gates(*[0.002] * 10), activation="relu")
    assert [f.severity for f in findings(blind_layer, survey)] == [Severity.INFO]


def test_a_warning_where_no_layer_sees():
    z = gates(0.002, 0.998)
    survey = one(z, bias=z.mean(0), activation="relu")
    assert next(findings(blind_layer, survey)).severity is Severity.WARNING
    other = Site(
        name="b", kind="linear", out=2, fan_in=2, weight="b.weight", activation="gelu"
    )
    survey = replace(survey, sites=(*survey.sites, other))
    assert next(findings(blind_layer, survey)).severity is Severity.INFO


@pytest.mark.parametrize(
    "site",
    [
        {"activation": "gelu"},
        {"is_output": True},
        {"gates": True},
        {"norm": "batch-norm"},
    ],
)
def test_what_is_not_judged(site):
    assert not found(0.002, 0.998, **site)


@pytest.mark.parametrize(("samples", "fires"), [(28, False), (29, True)])
def test_few_samples_give_no_verdict(samples, fires):
    survey = one(gates(0.002, 0.998), activation="relu", samples=samples)
    assert bool(list(findings(blind_layer, survey))) is fires


def test_the_best_bias_is_minus_the_median():
    """At x = 0 in the middle of z = x^3 + b the median, not the mean, is 0."""
    z = np.linspace(-1, 2, 999)[:, None] ** 3 - 9
    median = np.median(z, axis=0)
    survey = one(z, bias=[-9.0], activation="relu")
    act = Activity(median=median, spread=np.ones(1), slope=np.ones(1))
    reading = replace(survey.readings["fc1"], activity=act)
    survey = replace(survey, readings={"fc1": reading})
    told = next(findings(blind_layer, survey))
    assert told.evidence["best"] == pytest.approx(-9 - median[0])
    assert abs(told.evidence["best"] + 9 - z.mean()) > 0.1


def test_the_remedy_gives_each_gate_a_bit():
    """As X3 has it: the entropy is largest at minus the median."""
    import plumbob

    leaning = case(leans=True)
    told = next(findings(blind_layer, measure(**leaning)))
    mended = plumbob.apply(told, leaning["model"])
    rows = plumbob.look(mended, leaning["data"])["0"].table()
    assert min(row["entropy"] for row in rows) > 0.99
