"""Small trainings that are watched: what the rules of a run's history are tried on."""

import torch

import plumbob


def run(model, optimizer, loss, batches, *, held=None, every=1, asked=False, **options):
    """Train on batches of (inputs, targets), watched; return the closed watch.

    `held` are batches of held-out data, whose mean loss is told every 10 steps.
    `asked`: the loss is called through the watch, which then knows the constant's.
    """
    given = {"on_finding": None, "every": every} | ({"loss": loss} if asked else {})
    with plumbob.watch(model, optimizer, **given | options) as watch:
        for number, (x, y) in enumerate(batches):
            model.train()
            optimizer.zero_grad()
            value = (watch.loss if asked else loss)(model(x), y)
            value.backward()
            optimizer.step()
            watch.step(None if asked else value)
            if held and number % 10 == 9:
                model.eval()
                with torch.no_grad():
                    values = [float(loss(model(a), b)) for a, b in held]
                watch.validate(sum(values) / len(values))
    return watch


def codes(watch):
    """Return the codes of all findings of a watch, consequences included."""
    return {f.code for root in watch.findings for f in (root, *root.consequences)}
