import pytest
import torch

import ranks
import two_ranks
from plumbob.survey.stream import agreement
from plumbob.survey.stream.agreement import Agreement


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return what the cases give on two ranks."""
    found = ranks.ran(two_ranks.__file__, tmp_path_factory.mktemp("ranks"))
    return {case: [one[case] for one in found] for case in found[0]}


def whole():
    """Return sizes and gradient norms of the first step on all data, by name."""
    net = two_ranks.net()
    parts = []
    for rank in range(2):
        torch.manual_seed(rank)
        parts.append(torch.randn(8, 300))
    net(torch.cat(parts)).square().mean().backward()
    named = dict(net.named_parameters())
    sizes = {n: float(p.detach().norm()) for n, p in named.items()}
    return sizes, {n: float(p.grad.norm()) for n, p in named.items()}


@pytest.mark.parametrize("case", ["ddp", "fsdp"])
def test_marks_are_of_the_whole_on_every_rank(both, case):
    first, second = both[case]
    sizes, norms = whole()
    for found in (first, second):
        assert found["broken"] is None
        assert found["steps"] == [0, 1, 2, 3, 4, 5]
        for name, norm in norms.items():
            assert found["norms"][name] == pytest.approx(norm, rel=1e-4)
            close = 0.02 if name == "0.weight" else 1e-4  # of which a sample is taken
            assert found["sizes"][name] == pytest.approx(sizes[name], rel=close)
        assert not any(found["apart"])
    assert first["moved"]["0.bias"] == pytest.approx(second["moved"]["0.bias"])


def test_copies_that_drift_apart_are_told(both):
    first, second = both["drift"]
    assert first["apart"] == second["apart"]
    assert [bool(some) for some in first["apart"]] == [False] * 3 + [True] * 3
    assert set(first["apart"][-1]) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_rank_that_watches_alone_waits_for_nobody(both):
    first, second = both["alone"]
    assert first["steps"] == [0, 1, 2, 3, 4, 5]
    assert first["broken"] is None
    assert second["steps"] == []


def test_what_breaks_on_one_rank_ends_the_watch_on_all(both):
    first, second = both["broken"]
    assert second["broken"].startswith("TypeError")
    assert first["broken"] == "something went wrong on another rank"
    assert first["steps"] == second["steps"] == [0, 1]


def test_a_store_that_has_gone_with_another_rank_is_waited_for_by_nobody(monkeypatch):
    class Gone:
        def set(self, *_):
            raise RuntimeError("connection reset by peer")

        check = set

    monkeypatch.setattr(agreement, "_store", Gone)
    monkeypatch.setattr(agreement.distributed, "is_initialized", lambda: True)
    one = Agreement()
    one.ranks = 2
    assert one.deserted()
    one.leave()
    monkeypatch.undo()
    assert one.deserted()  # there is no group any more


def test_where_ranks_cannot_ask_each_other_none_goes_on(monkeypatch):
    def refused(*_, **__):
        raise RuntimeError("No backend type associated with device type cpu")

    monkeypatch.setattr(agreement.distributed, "all_reduce", refused)
    one = Agreement()
    assert not one.any(False, torch.device("cpu"))
    one.ranks = 2
    assert one.any(False, torch.device("cpu"))


def test_parts_that_are_all_zero_are_not_yet_known_to_be_copies(monkeypatch):
    def told(one, *sums):
        def gather(parts, mine):
            for part, values in zip(parts, sums, strict=True):
                part.copy_(torch.tensor(values)[:, None])

        monkeypatch.setattr(agreement.distributed, "all_gather", gather)
        return one.told(["b"], one.apart(torch.zeros(4, 1)).numpy())

    one = Agreement()
    one.ranks = 2
    apart = [1.0, 4.0, 1.0, 64.0], [2.0, 4.0, 2.0, 64.0]
    # a part of each rank's own, which a rate of zero has left where it began
    assert told(one, [0.0, 0.0, 1.0, 64.0], [0.0, 0.0, 2.0, 64.0]) == {}
    assert told(one, *apart) == {}
    assert told(one, [1.0, 1.0, 1.0, 64.0], [1.0, 1.0, 2.0, 64.0]) == {}
    assert told(one, *apart) == {"b": pytest.approx(1 / 16)}
