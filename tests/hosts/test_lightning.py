import logging
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from hosting import SITES, codes, data, net, same

lightning = pytest.importorskip("lightning.pytorch")

from lightning.pytorch.plugins.precision import MixedPrecision  # ruff: ignore[module-import-not-at-top-of-file]

from plumbob.hosts.lightning import Watcher  # ruff: ignore[module-import-not-at-top-of-file]
from plumbob.watching.recorded import read_run  # ruff: ignore[module-import-not-at-top-of-file]

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    def __init__(self, lr=0.01, dead=False):
        super().__init__()
        self.net = net(dead)
        self.lr, self.losses = lr, []

    def training_step(self, batch, _):
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val_loss", cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Rivals(lightning.LightningModule):
    """Two nets with an optimiser each, stepped by hand."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(8, 3), nn.Linear(8, 3)

    def training_step(self, batch, _):
        x, y = batch
        for optimizer, part in zip(
            self.optimizers(), (self.one, self.two), strict=True
        ):
            optimizer.zero_grad()
            self.manual_backward(cross_entropy(part(x), y))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(p.parameters(), lr=0.1) for p in (self.one, self.two)]


def loader(seed=0):
    return DataLoader(TensorDataset(*data(seed=seed)), batch_size=32)


def fit(module, *callbacks, epochs=3, ckpt_path=None, **options):
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": epochs,
    }
    trainer = lightning.Trainer(**(defaults | options), callbacks=list(callbacks))
    held = loader(1) if isinstance(module, Classifier) else None
    trainer.fit(module, loader(), held, ckpt_path=ckpt_path)
    return trainer


def losses(watcher):
    history = watcher.watch.judged.history
    return {name: list(series.values) for name, series in history.losses.items()}


def test_modules_losses_and_gradients_are_recorded():
    watcher, module = Watcher(every=1), Classifier()
    fit(module, watcher)
    history = watcher.watch.judged.history
    assert list(history.windows) == SITES
    assert list(history.loss.steps) == list(range(24))
    np.testing.assert_allclose(history.loss.values, torch.stack(module.losses))
    assert len(history.held.values) == 3  # not the sanity check
    for course in history.courses.values():
        assert np.isfinite(course.gradient).all()
        assert (course.change > 0).all()
    assert watcher.watch.over


def test_accumulated_batches_are_one_step():
    watcher, module = Watcher(every=1, graph=False), Classifier()
    fit(module, watcher, accumulate_grad_batches=2)
    history = watcher.watch.judged.history
    pairs = torch.stack(module.losses).reshape(-1, 2).mean(1)
    assert history.taken == 12
    np.testing.assert_allclose(history.loss.values, pairs, rtol=1e-6)


def test_losses_are_told_before_they_are_scaled():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    watcher, module = Watcher(every=1, graph=False), Classifier()
    fit(module, watcher, plugins=[plugin])
    (found,) = losses(watcher).values()
    np.testing.assert_allclose(found, torch.stack(module.losses), rtol=1e-3)


def test_several_optimisers_have_a_series_each():
    watcher = Watcher(every=1, graph=False)
    fit(Rivals(), watcher)
    history = watcher.watch.judged.history
    assert list(history.losses) == ["optimizer 1", "optimizer 2"]
    assert [len(s.values) for s in history.losses.values()] == [24, 24]
    assert list(history.windows) == ["one", "two"]


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {}], ids=str)
def test_training_is_the_same_bit_for_bit(options):
    with_it, without = Classifier(), Classifier()
    fit(with_it, Watcher(every=1), gradient_clip_val=0.5, **options)
    fit(without, gradient_clip_val=0.5, **options)
    assert same(with_it, without)
    assert all(map(torch.equal, with_it.losses, without.losses))


def test_a_run_goes_on_from_a_checkpoint(tmp_path):
    first = fit(Classifier(), Watcher(), epochs=1)
    first.save_checkpoint(tmp_path / "first.ckpt")
    again, watcher = Classifier(), Watcher(every=1, graph=False)
    fit(again, watcher, epochs=2, ckpt_path=tmp_path / "first.ckpt")
    straight = Classifier()
    fit(straight, epochs=2)
    assert same(again, straight)
    assert watcher.watch.judged.history.taken == 8


def test_a_dead_layer_is_found_and_a_healthy_run_is_silent():
    dead, well = Watcher(every=10), Watcher(every=10)
    fit(Classifier(dead=True), dead, epochs=5)
    fit(Classifier(), well, epochs=5)
    assert "PB201" in codes(dead.watch)
    assert codes(well.watch) == set()


def test_a_fit_that_fails_is_let_go_of(tmp_path):
    class Failing(Classifier):
        def training_step(self, batch, index):
            if index == 3:
                raise RuntimeError("the user's own")
            return super().training_step(batch, index)

    watcher = Watcher(every=1, graph=False, run=tmp_path / "run")
    module = Failing()
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(module, watcher)
    events = [(event.kind, event.text) for event in read_run(tmp_path / "run").events]
    assert events == [("exception", "RuntimeError: the user's own"), ("end", "")]
    assert watcher.watch.over
    assert not any(m._forward_hooks for m in module.modules())
    assert math.isfinite(watcher.watch.judged.history.loss.values[-1])
