import pytest

import ranks
import watched_ranks


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return what the cases give on two ranks."""
    return ranks.ran(watched_ranks.__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", ["ddp", "broken", "fsdp"])
def test_a_watch_on_two_ranks(both, case):
    for found in (rank[case] for rank in both):
        assert found["broken"] is None
        assert found["same"]
        assert found["ranks"] == 2
        assert found["taken"] == 8


def test_a_rank_that_stops_watching_is_not_waited_for(both):
    stays, leaves = (rank["leaves"] for rank in both)
    assert stays["same"]
    assert leaves["same"]
    assert (stays["broken"], leaves["broken"]) == (None, None)
    assert (stays["taken"], leaves["taken"]) == (8, 4)
    assert (stays["ranks"], leaves["ranks"]) == (1, 2)


def test_what_one_rank_sees_alone_is_looked_for_there_alone(both):
    assert "PB701" in both[1]["broken"]["codes"]
    assert "PB701" not in both[0]["ddp"]["codes"]
