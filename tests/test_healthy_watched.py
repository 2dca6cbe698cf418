"""Nothing above info, by any rule and at any step, while healthy networks train."""

import pytest

from healthy_runs import FAMILIES, loud, watched

# One of each kind; all are in benchmarks/healthy_watched.py.
SPREAD = (
    "autoencoder",
    "batch_norm",
    "cnn",
    "fine_tuned_head",
    "gan_generator",
    "gaussian_likelihood",
    "lstm",
    "mlp_sgd",
    "policy",
    "rare_class_with_its_prior",
    "regression",
    "sigmoid_shallow",
    "tanh",
    "transformer_pre_norm",
    "triplet",
)


@pytest.mark.parametrize(("every", "asked"), [(1, True), (10, False)])
@pytest.mark.parametrize("name", SPREAD)
def test_a_healthy_training_is_left_in_peace(name, every, asked):
    watch = watched(name, every % 3, every=every, asked=asked)
    assert not loud(watch)
    assert not watch.verdict.crashed
    assert "watching" not in watch.unseen


def test_the_kinds_are_families():
    assert set(SPREAD) <= set(FAMILIES)


def test_what_leans_would_be_told():
    """A training whose sign is flipped is loud: this test can fail."""
    import torch
    from torch.nn.functional import cross_entropy

    import plumbob
    from healthy import mlp_sgd

    torch.manual_seed(0)
    training = mlp_sgd(0)
    with plumbob.watch(
        training.model, training.made, loss=cross_entropy, every=1, on_finding=None
    ) as watch:
        for x, y in training.batches * 4:
            training.made.zero_grad()
            (-watch.loss(training.model(x), y)).backward()
            training.made.step()
    assert loud(watch)
