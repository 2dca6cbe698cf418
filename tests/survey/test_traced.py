"""Is one graph enough for training and inference?"""

import pytest
import torch
from torch import nn

from families import First, encoder, llama, vit, words
from plumbob.survey.batches import batches
from plumbob.survey.structures import read
from theorems import normals


class Split(nn.Module):
    """Is another function in training; `how` says where the two part."""

    def __init__(self, how):
        super().__init__()
        self.how, self.one, self.two = how, nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        if self.how == "parameter":
            return (self.one if self.training else self.two)(x)
        if self.how == "number":
            return self.one(x) * (2.0 if self.training else 3.0)
        if self.how == "constant":
            return self.one(x) + torch.tensor([2.0 if self.training else 3.0])
        with torch.no_grad():
            y = x + torch.tensor([2.0 if self.training else 3.0])
        return self.one(y)


def graphs(model, data):
    return read(model, next(batches(model, data, limit=1))).graphs


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0)), normals(4, 3)),
        (encoder(pre=True), normals(3, 5, 16)),
        (First(nn.LSTM(3, 4), 4), normals(4, 5, 3)),
        (vit(), {"pixel_values": normals(4, 3, 16, 16)}),
        (llama(), words(4, 5)),
    ],
    ids=["linear", "encoder", "lstm", "vit", "llama"],
)
def test_one_does_for_both(model, data):
    found = graphs(model, data)
    assert found[True].module is found[False].module
    assert [found[mode].training for mode in (True, False)] == [True, False]


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), normals(4, 3)),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), normals(4, 3)),
        (First(nn.LSTM(3, 4, 2, dropout=0.5), 4), normals(4, 5, 3)),
        *((Split(how), normals(4, 3)) for how in ("parameter", "number", "constant")),
        (Split("within"), normals(4, 3)),
    ],
    ids=["dropout", "norm", "lstm", "parameter", "number", "constant", "within"],
)
def test_each_mode_has_its_own(model, data):
    found = graphs(model, data)
    assert found[True].module is not found[False].module
