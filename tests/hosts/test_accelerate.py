import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from hosting import SITES, codes, data, net, same

pytest.importorskip("accelerate")

from accelerate import Accelerator

from plumbob.hosts.accelerate import watch


def train(*, watched, accumulate=1, epochs=3, dead=False):
    """Return the model, the loss of each step, and the watch."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = net(dead)
    model, optimizer, loader = accelerator.prepare(
        model,
        torch.optim.Adam(model.parameters(), lr=0.01),
        DataLoader(TensorDataset(*data()), batch_size=32),
    )
    seen = watch(accelerator, model, optimizer, every=5) if watched else None
    losses, parts = [], []
    for _ in range(epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = cross_entropy(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            parts.append(loss.detach())
            if accelerator.sync_gradients:
                losses.append(torch.stack(parts).mean())
                parts.clear()
                if seen is not None:
                    seen.step(losses[-1])
    if seen is not None:
        seen.close()
    return accelerator.unwrap_model(model), losses, seen


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 24), (2, 12)])
def test_steps_are_those_that_are_taken(accumulate, steps):
    _, losses, seen = train(watched=True, accumulate=accumulate)
    history = seen.judged.history
    assert list(history.windows) == SITES
    assert list(history.loss.steps) == list(range(steps))
    np.testing.assert_allclose(history.loss.values, torch.stack(losses))
    assert (history.courses["0.weight"].change > 0).all()


def test_training_is_the_same_bit_for_bit():
    one, first, _ = train(watched=True, accumulate=2)
    other, second, _ = train(watched=False, accumulate=2)
    assert same(one, other)
    assert all(map(torch.equal, first, second))


def test_a_dead_layer_is_found_and_a_healthy_run_is_silent():
    assert "PB201" in codes(train(watched=True, dead=True, epochs=5)[2])
    assert codes(train(watched=True, epochs=5)[2]) == set()
