import os

import numpy as np
import pytest
import torch

from hosting import codes, data

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("Keras does not run on torch", allow_module_level=True)

from keras import layers  # ruff: ignore[module-import-not-at-top-of-file]

from plumbob.hosts.keras import Twin, Watcher  # ruff: ignore[module-import-not-at-top-of-file]

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp(dead=False, dropout=0.0, lr=0.01, **options):
    keras.utils.set_random_seed(0)
    bias = keras.initializers.Constant(-30.0 if dead else 0.0)
    model = keras.Sequential([
        keras.Input((8,)),
        layers.Dense(32, activation="relu", name="first"),
        layers.Dropout(dropout),
        layers.Dense(32, activation="relu", name="second", bias_initializer=bias),
        layers.Dense(3, name="third"),
    ])
    optimizer = keras.optimizers.Adam(lr, **options)
    model.compile(optimizer=optimizer, loss=CROSS_ENTROPY)
    return model


def convnet():
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 2))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="one")(x)
    b = layers.Conv2D(4, 3, strides=2, padding="same", name="two")(a)
    b = layers.BatchNormalization(name="norm")(b)
    c = layers.Conv2D(4, 1, strides=2, name="skip", use_bias=False)(x)
    y = layers.ReLU()(layers.Add()([b, c]))
    head = keras.Sequential([layers.Flatten(), layers.Dense(3, name="out")])
    model = keras.Model(x, head(y))
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=CROSS_ENTROPY)
    return model


class Batches(keras.callbacks.Callback):
    """The loss of each batch, from the running means that Keras shows."""

    def __init__(self):
        super().__init__()
        self.means = []

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(logs["loss"])


def fit(model, *callbacks, epochs=3, held=True):
    x, y = (t.numpy() for t in data())
    keras.utils.set_random_seed(1)
    model.fit(
        x,
        y,
        batch_size=32,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(x, y) if held else None,
        callbacks=list(callbacks),
    )
    return model


def same(one, other):
    pairs = zip(one.variables, other.variables, strict=True)
    return all(torch.equal(a.value, b.value) for a, b in pairs)


def test_layers_losses_gradients_and_steps_are_recorded():
    watcher, batches = Watcher(every=1), Batches()
    fit(mlp(), watcher, batches, epochs=1)
    history = watcher.watch.judged.history
    assert list(history.windows) == ["first", "second", "third"]
    counted = np.arange(1, 9)
    np.testing.assert_allclose(
        np.cumsum(history.loss.values) / counted, batches.means, rtol=1e-5
    )
    assert len(history.held.values) == 1
    assert history.taken == 8
    assert set(history.courses) == {
        f"{name}.{part}"
        for name in ("first", "second", "third")
        for part in ("weight", "bias")
    }
    for course in history.courses.values():
        assert np.isfinite(course.gradient).all()
        assert (course.change > 0).all()
        np.testing.assert_allclose(course.lr, 0.01)


def test_net_inputs_are_those_before_the_activation():
    watcher = Watcher(every=1, graph=False)
    model = mlp(lr=0.0)
    fit(model, watcher, epochs=1, held=False)
    x, _ = data()
    kernel, bias = (v.value.detach() for v in model.get_layer("first").variables)
    z = (x @ kernel + bias)[-32:]
    last = watcher.watch.judged.history.windows["first"][-1].z
    np.testing.assert_allclose(last.mean, z.mean(0), atol=1e-5)
    np.testing.assert_allclose(last.low, z.amin(0), atol=1e-5)


@pytest.mark.parametrize("build", [mlp, convnet])
def test_the_twin_computes_what_the_model_does(build):
    model = build()
    twin = Twin(model).eval()
    shape = (4, *model.input_shape[1:])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(twin(x), model(x, training=False))
    names = {name for name, _ in twin.named_modules()}
    assert {"one", "two", "skip", "norm"} <= names or "first" in names


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=str)
def test_training_is_the_same_bit_for_bit(options):
    build = {"dropout": 0.5} | options
    one, other = Batches(), Batches()
    watched = fit(mlp(**build), Watcher(every=1), one)
    assert same(watched, fit(mlp(**build), other))
    assert one.means == other.means


def test_a_convolutional_model_is_watched_and_the_same():
    def run(*callbacks):
        model = convnet()
        generator = np.random.default_rng(0)
        x = generator.normal(size=(32, 8, 8, 2)).astype("float32")
        model.fit(x, np.arange(32) % 3, batch_size=8, verbose=0, callbacks=callbacks)
        return model

    watcher = Watcher(every=1)
    assert same(run(watcher), run())
    history = watcher.watch.judged.history
    assert {"one", "two", "skip"} <= set(history.windows)
    assert "norm.gamma" in history.courses


def test_accumulated_gradients_are_one_step():
    watcher = Watcher(every=1, graph=False)
    fit(mlp(gradient_accumulation_steps=2), watcher, epochs=2)
    history = watcher.watch.judged.history
    assert history.taken == 8
    assert (history.courses["first.weight"].change > 0).all()


def test_model_and_optimiser_are_as_they_were():
    model = mlp()
    fit(model, Watcher(every=1, graph=False), epochs=1)
    assert not {"apply", "scale_loss"} & vars(model.optimizer).keys()
    parts = [model, *model._flatten_layers()]
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in parts)


def test_a_fit_that_fails_leaves_nothing_to_the_next():
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyError

    model, watcher = mlp(), Watcher(every=1, graph=False)
    with pytest.raises(KeyError):
        fit(model, watcher, Fails(), epochs=1)
    first = watcher.watch
    fit(model, watcher, epochs=1)
    assert first.over
    assert len(watcher.watch.judged.history.loss.values) == 8
    parts = [model, *model._flatten_layers()]
    assert not {"apply", "scale_loss"} & vars(model.optimizer).keys()
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in parts)


def test_a_twin_that_fails_costs_the_training_nothing(monkeypatch):
    def failing(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr("plumbob.hosts.keras._input", failing)
    watcher = Watcher(every=1)
    with pytest.warns(UserWarning, match="no units are seen"):
        watched = fit(mlp(), watcher, epochs=1)
    assert same(watched, fit(mlp(), epochs=1))
    assert len(watcher.watch.judged.history.loss.values) == 8


@pytest.mark.filterwarnings("ignore:The model does not have any trainable")
def test_a_model_that_cannot_be_watched_costs_the_training_nothing():
    frozen = mlp()
    frozen.trainable = False
    frozen.compile(optimizer="sgd", loss=CROSS_ENTROPY)
    watcher = Watcher(every=1)
    with pytest.warns(UserWarning, match="nothing is watched, the training goes on"):
        fit(frozen, watcher, epochs=1)
    assert watcher.watch is None
    fit(mlp(), watcher, epochs=1)
    assert len(watcher.watch.judged.history.loss.values) == 8


def test_a_dead_layer_is_found_and_a_healthy_run_is_silent():
    dead, well = Watcher(every=10), Watcher(every=10)
    fit(mlp(dead=True), dead, epochs=5)
    fit(mlp(), well, epochs=5)
    assert "PB201" in codes(dead.watch)
    assert codes(well.watch) == set()
