import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hosting import SITES, codes, data, net, same

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (  # ruff: ignore[module-import-not-at-top-of-file]
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging  # ruff: ignore[module-import-not-at-top-of-file]

from plumbob.hosts.transformers import Watcher  # ruff: ignore[module-import-not-at-top-of-file]

logging.set_verbosity_error()


class Classifier(nn.Module):
    """A model of the user's own, as the Trainer takes it."""

    def __init__(self, dead=False):
        super().__init__()
        self.net = net(dead)
        self.losses = []

    def forward(self, x, labels=None):
        logits = self.net(x)
        loss = cross_entropy(logits, labels)
        if self.training:
            self.losses.append(loss.detach())
        return {"loss": loss, "logits": logits}


def rows(seed=0):
    return [{"x": x, "labels": y} for x, y in zip(*data(seed=seed), strict=True)]


def train(model, folder, *callbacks, kind=Trainer, data=None, **options):
    defaults = {
        "output_dir": str(folder),
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "learning_rate": 0.01,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 4,
    }
    trainer = kind(
        model,
        TrainingArguments(**(defaults | options)),
        train_dataset=data or rows(),
        eval_dataset=data or rows(1),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def gpt2():
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 32}
    return GPT2LMHeadModel(GPT2Config(**size, n_positions=16, use_cache=False))


def texts():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 32, (48, 8), generator=generator)
    return [{"input_ids": row, "labels": row} for row in ids]


def test_modules_and_losses_are_recorded(tmp_path):
    watcher, model = Watcher(every=1), Classifier()
    train(model, tmp_path, watcher, eval_strategy="epoch")
    history = watcher.watch.judged.history
    assert list(history.windows) == [f"net.{name}" for name in SITES]
    assert list(history.loss.steps) == list(range(24))
    np.testing.assert_allclose(history.loss.values, torch.stack(model.losses))
    assert len(history.held.values) == 3
    assert (history.courses["net.0.weight"].change > 0).all()
    assert watcher.watch.over


@pytest.mark.parametrize("checkpointing", [False, True])
def test_accumulated_losses_are_those_that_the_trainer_logs(tmp_path, checkpointing):
    watcher = Watcher(every=1, graph=False)
    model = gpt2()
    if checkpointing:
        model.activation_checkpointing_enable()
    trainer = train(
        model,
        tmp_path,
        watcher,
        data=texts(),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=3,
        logging_steps=1,
        num_train_epochs=2,
    )
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    history = watcher.watch.judged.history
    assert history.taken == len(logged) == 8
    np.testing.assert_allclose(history.loss.values, logged, rtol=1e-4)


def test_batches_that_are_averaged_are_averaged(tmp_path):
    watcher, model = Watcher(every=1, graph=False), Classifier()
    train(model, tmp_path, watcher, gradient_accumulation_steps=2)
    pairs = torch.stack(model.losses).reshape(-1, 2).mean(1)
    values = watcher.watch.judged.history.loss.values
    np.testing.assert_allclose(values, pairs, rtol=1e-6)


def test_logged_losses_are_noted_where_outputs_hold_none(tmp_path):
    class Own(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **_):
            output = model.net(inputs["x"])
            loss = cross_entropy(output, inputs["labels"])
            return (loss, output) if return_outputs else loss

    watcher = Watcher(every=1, graph=False)
    trainer = train(Classifier(), tmp_path, watcher, kind=Own)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    loss = watcher.watch.judged.history.loss
    np.testing.assert_allclose(loss.values, logged)
    assert list(loss.steps) == [3, 7, 11, 15, 19, 23]


def test_it_is_said_that_the_trainer_has_another_loss(tmp_path):
    class Doubled(Trainer):
        def compute_loss(self, *args, **kwargs):
            return 2 * super().compute_loss(*args, **kwargs)

    watcher = Watcher(every=1, graph=False)
    with pytest.warns(UserWarning, match="the logged ones are noted"):
        train(Classifier(), tmp_path, watcher, kind=Doubled)
    history = watcher.watch.judged.history
    assert list(history.losses["loss"].steps) == [0, 1, 2, 3]
    assert list(history.losses["logged loss"].steps) == [7, 11, 15, 19, 23]
    assert codes(watcher.watch) == set()


def test_a_training_that_fails_leaves_nothing_to_the_next(tmp_path):
    class Fails(transformers.TrainerCallback):
        fails = True

        def on_step_end(self, args, state, control, **kwargs):
            if self.fails:
                raise KeyError

    model, watcher, fails = gpt2(), Watcher(every=1), Fails()
    options = {"data": texts(), "gradient_accumulation_steps": 2, "logging_steps": 1}
    with pytest.raises(KeyError):
        train(model, tmp_path, watcher, fails, **options)
    fails.fails = False
    trainer = train(model, tmp_path, watcher, fails, **options)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    history = watcher.watch.report.survey.history
    np.testing.assert_allclose(history.loss.values, logged, rtol=1e-3)


def test_closing_the_watch_of_a_training_that_failed_leaves_the_model(tmp_path):
    class Fails(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyError

    model, watcher = Classifier(), Watcher(every=1)
    before = len(model._forward_hooks)
    with pytest.raises(KeyError):
        train(model, tmp_path, watcher, Fails())
    assert len(model._forward_hooks) > before
    watcher.close()
    assert watcher.watch.over
    assert len(model._forward_hooks) == before


def test_training_is_the_same_bit_for_bit(tmp_path):
    def run(*callbacks):
        model = gpt2()  # with dropout
        trainer = train(model, tmp_path, *callbacks, data=texts(), seed=3)
        return model, [row.get("loss") for row in trainer.state.log_history]

    (one, first), (other, second) = run(Watcher(every=3)), run()
    assert first == second
    assert same(one, other)


def test_a_dead_layer_is_found_and_a_healthy_run_is_silent(tmp_path):
    dead, well = Watcher(every=10), Watcher(every=10)
    train(Classifier(dead=True), tmp_path, dead, num_train_epochs=5)
    train(Classifier(), tmp_path, well, num_train_epochs=5)
    assert "PB201" in codes(dead.watch)
    assert codes(well.watch) == set()
