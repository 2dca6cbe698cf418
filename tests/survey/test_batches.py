import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, TensorDataset

from plumbob.errors import InputError
from plumbob.survey.batches import LIMIT, batches

NET = nn.Linear(4, 3)
X, Y = torch.randn(10, 4), torch.arange(10) % 3


class Optional(nn.Module):
    """Takes a second tensor, or a flag, if it likes."""

    def __init__(self, default):
        super().__init__()
        if default is None:
            self.forward = lambda x, mask=None: x * mask
        else:
            self.forward = lambda x, flag=False: x


def one(model, data, **options):
    (batch,) = batches(model, data, **options)
    return batch


def test_a_single_batch():
    assert one(NET, X).args[0] is X
    assert one(NET, (X,)).args[0] is X
    assert one(NET, {"input": X}).kwargs == {"input": X}
    batch = one(NET, X, targets=Y, loss=nn.CrossEntropyLoss())
    assert (batch.targets is Y, batch.samples) == (True, 10)
    assert one(NET, (X, Y)).targets is Y
    assert one(nn.Bilinear(4, 4, 1), (X, X)).args == (X, X)
    with_names = one(NET, {"input": X, "label": Y})
    assert (list(with_names.kwargs), with_names.targets is Y) == (["input"], True)


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_stock_loaders(loss):
    found = list(batches(NET, DataLoader(TensorDataset(X, Y), 4), loss=loss))
    assert [b.samples for b in found] == [4, 4, 2]
    assert torch.equal(found[2].args[0], X[8:])
    assert torch.equal(found[2].targets, Y[8:])
    assert [b.targets for b in batches(NET, DataLoader(TensorDataset(X), 5))] == [
        None
    ] * 2
    rows = [{"input": x} for x in X]
    assert one(NET, DataLoader(rows, 10)).kwargs["input"].shape == (10, 4)


def test_inputs_may_be_nested():
    assert one(NET, [({"input": X}, Y)]).kwargs["input"] is X
    assert one(nn.Bilinear(4, 4, 1), [((X, X), Y)]).args == (X, X)
    assert one(nn.Bilinear(4, 4, 1), [(X, X, Y)]).targets is Y


def test_an_optional_parameter_is_tried_or_known_to_take_no_tensor():
    assert one(Optional(None), [(X, torch.ones(10, 4))]).targets is None
    assert one(Optional(None), [(X, torch.ones(7))]).targets is not None
    assert one(Optional(False), [(X, torch.ones(10, 4))]).targets is not None
    lstm = nn.LSTM(4, 5, batch_first=True)
    assert one(lstm, [(torch.randn(2, 3, 4), torch.zeros(2))]).targets is not None


def test_samples_where_batch_is_second():
    x = torch.randn(7, 2, 4)
    assert one(NET, x).samples == 7
    assert one(NET, x, targets=torch.zeros(2)).samples == 2
    packed = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    assert one(nn.LSTM(4, 5), packed).samples == 2


def test_the_number_is_bounded():
    assert len(list(batches(NET, [X] * 40))) == LIMIT
    assert len(list(batches(NET, [X] * 40, limit=3))) == 3


def test_the_loaders_generator_is_put_back():
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(TensorDataset(X), 2, shuffle=True, generator=generator)
    before = generator.get_state()
    list(batches(NET, loader, limit=2))
    assert torch.equal(generator.get_state(), before)


def broken():
    yield X
    raise OSError("disk")


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        ([], {}, "at least one batch, got none from list"),
        ("abc", {}, "cannot feed str"),
        (3, {}, "cannot feed int"),
        (X.numpy(), {}, "torch.from_numpy"),
        (TensorDataset(X), {}, "DataLoader"),
        ([1], {}, "batch 1 of the loader is int"),
        ({}, {}, "holds no tensor"),
        (X, {"loss": print}, r"expected \(inputs, targets\).*float32\[10, 4\]"),
        ([X], {"targets": Y}, "expected targets= only beside a single batch"),
        ({"a": X, "b": X}, {}, r"keys 'a', 'b'.*forward\(input\)"),
        ({"a": X}, {}, r"keys 'a'.*forward\(input\)"),
        (X.to("meta"), {}, "expected data on cpu.*on meta"),
        ([X, X[:0]], {}, "at least one sample.*batch 2"),
        (broken(), {}, "the loader broke: OSError: disk"),
        (X, {"limit": 0}, "limit of at least 1"),
    ],
)
def test_what_cannot_be_fed(data, options, says):
    with pytest.raises(InputError, match=says):
        list(batches(NET, data, **options))


def test_data_parallel_takes_what_its_module_takes():
    assert one(nn.DataParallel(NET), (X, Y)).targets is Y
