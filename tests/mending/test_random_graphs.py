"""Random graphs of supported layers: what is done holds, what is not has its reason."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixable import fixed
from fixing import nothing_left, nothing_told


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.randoms(use_true_random=False))
def test_what_is_fixed_is_the_same_function(draw):
    x, result, options = fixed(draw)
    nothing_left(result.model, x, **options)
    nothing_told(result.model, x, result.done)
