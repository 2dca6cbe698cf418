import pytest

from plumbob.sinks.tensorboard import TensorBoard
from plumbob.watching.shown import MOST
from sinking import feed

pytest.importorskip("tensorboard")

ALL = {"tensors": 0, "histograms": 0}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    folder = str(tmp_path_factory.mktemp("tensorboard"))
    with SummaryWriter(folder) as writer:
        feed(TensorBoard(writer))
    return EventAccumulator(folder, size_guidance=ALL).Reload()


def text(events, tag):
    found = events.Tensors(f"plumbob/{tag}/text_summary")
    return [(e.step, e.tensor_proto.string_val[0].decode()) for e in found]


def test_losses_are_read_back(events):
    found = [(e.step, e.value) for e in events.Scalars("plumbob/loss")]
    assert found == [(0, 1.0), (50, 0.5)]


def test_effective_biases_are_read_back(events):
    first, second = events.Histograms("plumbob/effective bias/layer39")
    assert (first.step, second.step) == (0, 50)
    value = first.histogram_value
    assert (value.num, value.min) == (8, 39)
    assert value.max == pytest.approx(39.7)
    assert value.sum == pytest.approx(8 * 39 + 2.8)
    assert sum(value.bucket) == 8


def test_there_are_few_charts_however_many_sites(events):
    tags = events.Tags()
    assert len(tags["scalars"]) < 70
    assert len(tags["histograms"]) <= 2 * (MOST + 1)


def test_findings_are_a_text_at_each_change(events):
    (first, none), (later, some) = text(events, "findings")
    assert (first, none, later) == (0, "no findings", 50)
    assert some.startswith("- error PB701 loss-non-finite at layer7: ")
    assert "Net" in text(events, "about")[0][1]
    assert "update ratio/worst 1: layer39.weight" in text(events, "worst")[0][1]
