"""Healthy networks trained under watch, and what was told of them on the way."""

import torch

import healthy_images  # ruff: ignore[unused-import] (adds its families)
import healthy_others  # ruff: ignore[unused-import] (adds its families)
import healthy_sequences  # ruff: ignore[unused-import] (adds its families)
import healthy_tasks  # ruff: ignore[unused-import] (adds its families)
import healthy_transformers  # ruff: ignore[unused-import] (adds its families)
import plumbob
from healthy import FAMILIES
from healthy_generative import Pair
from plumbob import Severity

# In the epochs that are enough for a check these are not done: they come 13 % of the
# way, and to an accuracy of 65 %.
EPOCHS = {"autoencoder": 40, "one_hot_mse": 40}


def watched(name, seed, *, every, asked=True):
    """Train a family as its `train` does, watched; return the closed watch.

    `asked`: the loss is called through the watch; else each value is told.
    """
    torch.manual_seed(seed)
    training = FAMILIES[name](seed)
    if isinstance(training, Pair):
        return rivals(training, every, asked)
    model, optimizer, loss = training.model, training.made, training.loss
    rounds = 0 if training.trained_only else EPOCHS.get(name, training.epochs)
    given = {"loss": loss} if asked and loss is not None else {}
    with plumbob.watch(
        model, optimizer, every=every, on_finding=None, **given
    ) as watch:
        model.train()
        for _ in range(rounds):
            for batch in training.batches:
                if isinstance(batch, dict):
                    value = model(**batch).loss
                else:
                    *inputs, y = batch
                    value = (watch.loss if given else loss)(model(*inputs), y)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                watch.step(None if given else value)
    return watch


def rivals(pair, every, asked):
    models = {"generator": pair.generator, "critic": pair.critic}
    both = [pair.makes, pair.judges]
    given = {"loss": pair.said} if asked else {}
    with plumbob.watch(models, both, every=every, on_finding=None, **given) as watch:
        if asked:
            pair.said = watch.loss
        pair.train()
    return watch


def loud(watch):
    """Return what was told above info at any time: step, code, site, severity."""
    return [
        (change.step, f.code, f.site, f.severity.name, f.message)
        for change in watch.changes
        if (f := change.finding).severity > Severity.INFO and change.kind != "gone"
    ]
