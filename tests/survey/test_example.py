import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.example import example
from plumbob.survey.seen import seen


class Named(nn.Module):
    """Says what it takes as models of Hugging Face do."""

    def __init__(self, name, **config):
        super().__init__()
        self.main_input_name = name
        self.config = type("Config", (), config)()
        self.layer = nn.Linear(1, 1)

    def forward(self, **inputs):
        assert set(inputs) == {"input_ids", "decoder_input_ids"} or (
            inputs[self.main_input_name].shape[-1] == 6
        )
        return self.layer.weight


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 1)), (8, 3)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 1), nn.Unflatten(1, (1, 1))), (8, 3)),
        (nn.Embedding(5, 2), (4, 8)),
        (nn.GRU(3, 4), (4, 8, 3)),
        (nn.Conv1d(2, 3, 3), (4, 2, 64)),
        (nn.Conv3d(2, 3, 3), (2, 2, 16, 16, 16)),
        (
            nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 62**2, 1)),
            (4, 3, 64, 64),
        ),
    ],
)
def test_the_first_layer_tells_what_a_model_takes(model, shape):
    before, state = seen(model), torch.get_rng_state()
    inputs = example(model)
    assert tuple(inputs.shape) == shape
    assert inputs.is_floating_point() != isinstance(model, nn.Embedding)
    assert seen(model) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_configuration_tells_more():
    inputs = example(Named("pixel_values", image_size=6, num_channels=1))
    assert inputs["pixel_values"].shape == (2, 1, 6, 6)
    assert set(example(Named("input_ids", vocab_size=9))) == {
        "input_ids",
        "decoder_input_ids",
    }


def test_a_model_that_tells_nothing_needs_an_example():
    with pytest.raises(InputError, match="give one with --data"):
        example(nn.Bilinear(2, 3, 4))
    with pytest.raises(InputError, match="give one with --data"):
        example(nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)))
