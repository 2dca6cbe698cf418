from dataclasses import replace

import numpy as np
import pytest

from hand import rows_of
from plumbob.rule import findings
from plumbob.rules.degenerate_spectrum import degenerate_spectrum
from plumbob.types import Needs, Severity, Spectrum, Stage


def layer(rank, twin=None, **site):
    survey = rows_of(twin=np.arange(10) if twin is None else twin, **site)
    spectrum = Spectrum(top=2.0, residual=0.0, frobenius=2 * rank**0.5)
    reading = replace(survey.readings["fc1"], spectrum=spectrum)
    survey = replace(survey, readings={"fc1": reading}, known=Needs.SPECTRA)
    return list(findings(degenerate_spectrum, survey))


@pytest.mark.parametrize(("rank", "fires"), [(1.24, True), (1.26, False), (30, False)])
def test_the_stable_rank(rank, fires):
    told = layer(rank)
    assert bool(told) is fires
    assert all(f.severity is Severity.INFO for f in told)
    if fires:
        assert told[0].evidence["stable_rank"] == pytest.approx(rank)
        assert told[0].evidence["held"] == pytest.approx(1 / rank)


def test_what_is_not_judged():
    assert not layer(1.0, stage=Stage.INIT)
    assert not layer(1.0, gates=True)
    assert not layer(1.0, twin=np.zeros(10, int))  # one unit ten times: PB102, PB107
    assert layer(1.0, stage=Stage.TRAINED)
