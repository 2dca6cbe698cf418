"""A Keras model's `fit` on the torch backend watched: a callback."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import torch
from keras import layers
from torch import Tensor, nn
from torch.nn import functional

from plumbob.errors import InputError, PlumbobError, one_line
from plumbob.survey.stream.unsaved import Hook
from plumbob.verbs.watch import watch
from plumbob.watching.outlets import say
from plumbob.watching.watch import Watch


class Watcher(keras.callbacks.Callback):
    """Watches what `fit` trains, from before the first batch to the end.

    Why:
        Keras's layers are torch modules, but their kernels lie transposed, their
        activations are part of them, and Keras's optimisers are none of torch's. So a
        `Twin` is watched: torch's own layers over the same memory, which are given what
        Keras's layers get at the steps that are measured, and nothing at the others.

    Seen are Dense, Conv and Embedding layers with their net inputs z, the parameters
    and steps of all layers, losses and validation losses. Of other layers (recurrent,
    attention, EinsumDense) the units are not seen, under `jit_compile` those of none,
    and gradients are those before Keras clips them. A custom `train_step` that calls
    `optimizer.apply` without `optimizer.scale_loss` has no losses.

    Args:
        options: those of `plumbob.watch`.

    Example:
        >>> callback = Watcher(every=10)  # model.fit(..., callbacks=[callback])
        >>> callback.watch is None  # until the training begins
        True
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.watch: Watch | None = None
        self.twin: Twin | None = None
        self.loss: Tensor | None = None
        self.broken: str | None = None
        self.undo: list[Callable[[], Any]] = []

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Attach, before the first batch.

        Raises:
            InputError: Keras does not run on torch.
            PlumbobError: an option is not one of `plumbob.watch`.
        """
        if keras.backend.backend() != "torch":
            raise InputError(
                f"expected Keras on torch, got {keras.backend.backend()}; set "
                "KERAS_BACKEND=torch before Keras is imported"
            )
        self.close()  # of a fit that has failed
        self.broken = self.loss = None
        try:
            self._attach()
        except PlumbobError:
            raise
        except Exception as error:  # a model of a kind that is not known
            self.close()
            say(f"nothing is watched, the training goes on ({one_line(error)})")

    def _attach(self) -> None:
        model: Any = self.model
        optimizer = model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        twin = self.twin = _named(Twin, model)(model)
        steps = _named(Steps, inner)(inner, twin)
        self.watch = watch(twin, steps, **self.options)
        self.watch.ledger.told(None)
        self.watch.ledger.held_told()
        self.undo = [
            _replaced(optimizer, "scale_loss", self._scaling),
            _replaced(inner, "apply", steps.applying),
        ]
        if not model.jit_compile:
            hook = Hook(self._guarded(self._called))
            self.undo.append(
                model.register_forward_pre_hook(hook, with_kwargs=True).remove
            )
            for layer, part in twin.parts():
                hook = Hook(self._guarded(self._listening(part)))
                self.undo.append(layer.register_forward_pre_hook(hook).remove)

    def _guarded(self, act: Callable[..., None]) -> Callable[..., None]:
        """Return what does it until it fails; the training goes on."""

        def guarded(*given: Any) -> None:
            if self.broken is None:
                try:
                    act(*given)
                except Exception as error:
                    self.broken = one_line(error)
                    say(f"no units are seen from here on ({self.broken})")

        return guarded

    def _scaling(self, scale: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def scale_loss(loss: Any) -> Any:
            self.loss = loss.detach()
            return scale(loss)

        return scale_loss

    def _called(self, model: Any, args: Any, kwargs: Any) -> None:
        assert self.twin is not None
        self.twin.train(model.training)
        self.twin.told(*args)

    def _listening(self, part: nn.Module) -> Callable[..., None]:
        def listen(layer: Any, args: Any) -> None:
            watched = self.watch
            if watched is None or watched.feed.asleep or not watched.stream.due:
                return
            if not torch.is_grad_enabled():
                return
            x = args[0]
            if isinstance(x, Tensor):
                part(_input(layer, x.detach()))

        return listen

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Note the loss of the step, and that it is over."""
        if self.watch is None:
            return
        if self.loss is not None:
            self.watch.note(self.loss)
            self.loss = None
        self.watch.step()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Note the validation loss."""
        if self.watch is not None and logs and "val_loss" in logs:
            self.watch.validate(logs["val_loss"])

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Judge a last time, and put everything back."""
        self.close()

    def close(self) -> None:
        """Judge a last time, and put everything back; needed where a fit fails."""
        for act in self.undo:
            act()
        self.undo = []
        if self.watch is not None:
            self.watch.close()


class Twin(nn.Module):
    """Torch layers over the memory of a Keras model's, by the layers' paths.

    Called, it computes what the model does, which shows its graph; it is only called
    to be traced, and `told` is how the watch hears of calls of the model.
    """

    whole: Any  # the Keras model

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.__dict__["whole"] = model  # no part of this module
        self.known: dict[int, nn.Module] = {}
        self.shared: dict[int, tuple[nn.Parameter, tuple[int, ...]]] = {}
        self.silent = False
        for layer in model._flatten_layers(include_self=False):
            if not layer._trainable_variables or id(layer) in self.known:
                continue
            part = self.known[id(layer)] = _empty(layer)
            for name, variable, order in _sources(layer):
                value = variable.value.detach().permute(order)
                p = nn.Parameter(value, requires_grad=variable.trainable)
                part.register_parameter(name, p)
                self.shared[id(variable)] = p, order
            self.add_module(_place(layer, model), part)

    def parts(self) -> Iterator[tuple[Any, nn.Module]]:
        """Yield the layers whose units can be seen, and their twins."""
        for layer in self.whole._flatten_layers(include_self=False):
            part = self.known.get(id(layer))
            if isinstance(part, SEEN):
                yield layer, part

    def told(self, *inputs: Any) -> None:
        """Let the hooks know of a call of the model."""
        self.silent = True
        try:
            self(*inputs)
        finally:
            self.silent = False

    def forward(self, *inputs: Any) -> Any:
        """Compute what the Keras model does, unless it is only told of a call."""
        return None if self.silent else self._run(self.whole, *inputs)

    def _run(self, model: Any, *inputs: Any) -> Any:
        graph = getattr(model, "_functional", model)
        if not hasattr(graph, "_run_through_graph"):
            raise InputError(
                f"{type(model).__name__} has a `call` of its own, whose graph is not "
                "read; pass a Sequential or functional model to have it"
            )
        inputs = inputs[0] if len(inputs) == 1 else inputs
        return graph._run_through_graph(inputs, operation_fn=self._operation)

    def _operation(self, layer: Any) -> Callable[..., Any]:
        part = self.known.get(id(layer))

        def called(*inputs: Any, **named: Any) -> Any:
            if isinstance(layer, keras.Model):
                return self._run(layer, *inputs)
            if isinstance(layer, layers.Dropout):
                return functional.dropout(inputs[0], layer.rate, self.training)
            if isinstance(part, SEEN):
                return _output(layer, part(_input(layer, inputs[0])))
            return layer(*inputs, **named)

        return called


class Steps(torch.optim.Optimizer):
    """A Keras optimiser as one of torch's: its step is Keras's, so its hooks are heard.

    Groups and state say what Keras's own do.
    """

    def __init__(self, optimizer: Any, twin: Twin) -> None:
        self.keras, self.shared = optimizer, twin.shared
        self.take: Callable[[], Any] = lambda: None
        super().__init__([p for p in twin.parameters() if p.requires_grad], {})

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: None = None
    ) -> Any:
        """Take the step that waits; torch calls the hooks around it."""
        return self.take()

    def applying(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        """Return an `apply` that is a step where it changes parameters."""

        def applied(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            among = self.keras.gradient_accumulation_steps or 1
            if (int(self.keras._iterations) + 1) % among:
                return apply(grads, trainable_variables)
            variables = trainable_variables or self.keras._trainable_variables
            for variable, grad in zip(variables, grads, strict=True):
                # of gradients that were added up only the last one is at hand
                if id(variable) in self.shared and grad is not None and among == 1:
                    p, order = self.shared[id(variable)]
                    p.grad = grad.detach().permute(order)
            self._say()
            self.take = lambda: apply(grads, trainable_variables)
            try:
                return self.step()
            finally:
                self.zero_grad()

        return applied

    def _say(self) -> None:
        group = self.param_groups[0]
        group["lr"] = float(self.keras.learning_rate)
        group["weight_decay"] = float(self.keras.weight_decay or 0.0)
        group["decoupled_weight_decay"] = True
        for ours, theirs in (("momentum", "momentum"), ("eps", "epsilon")):
            if isinstance(value := getattr(self.keras, theirs, None), float):
                group[ours] = value
        moments = getattr(self.keras, "_velocities", ())
        for number, variable in enumerate(self.keras._trainable_variables):
            if id(variable) in self.shared:
                p, order = self.shared[id(variable)]
                self.state[p]["step"] = int(self.keras.iterations)
                if number < len(moments) and moments[number] is not None:
                    second = moments[number].value.permute(order)
                    self.state[p]["exp_avg_sq"] = second


SEEN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
CONVOLUTIONS = {
    layers.Conv1D: nn.Conv1d,
    layers.Conv2D: nn.Conv2d,
    layers.Conv3D: nn.Conv3d,
}


def _empty(layer: Any) -> nn.Module:
    """Return the torch layer that does what a Keras layer does, without its values."""
    own: Any = type(layer)
    kind = CONVOLUTIONS.get(own)
    if getattr(layer, "lora_enabled", False):
        return nn.Module()
    if own is layers.Embedding:
        return nn.Embedding(layer.input_dim, layer.output_dim, device="meta")
    if own is layers.Dense:
        fan_in, out = layer.kernel.shape
        return nn.Linear(fan_in, out, bias=layer.use_bias, device="meta")
    if kind is None:
        return nn.Module()
    return kind(
        layer.kernel.shape[-2] * layer.groups,
        layer.filters,
        layer.kernel_size,
        stride=layer.strides,
        dilation=layer.dilation_rate,
        groups=layer.groups,
        bias=layer.use_bias,
        device="meta",
    )


def _sources(layer: Any) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Yield torch's name, Keras's variable, and the order of its axes in torch."""
    kernel = getattr(layer, "embeddings", getattr(layer, "kernel", None))
    for variable in layer._trainable_variables:
        order = tuple(range(len(variable.shape)))
        name = variable.name.replace(".", "_")
        if type(layer) in {layers.Dense, layers.Embedding, *CONVOLUTIONS}:
            if variable is kernel:
                name = "weight"
            if variable is kernel and type(layer) is not layers.Embedding:
                order = order[:-3:-1] + order[:-2]
        yield name, variable, order


def _input(layer: Any, x: Tensor) -> Tensor:
    """Return what torch's layer wants in place of what Keras's gets."""
    if isinstance(layer, layers.Embedding):
        return x.long()
    x = x.to(layer.kernel.value.dtype)
    if isinstance(layer, layers.Dense):
        return x
    if layer.data_format == "channels_last":
        x = x.movedim(-1, 1)
    if layer.padding == "valid":
        return x
    pads: list[int] = []
    for size, kernel, stride, dilation in zip(
        x.shape[2:], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        span = (kernel - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        before = total // 2
        if layer.padding == "causal":
            total = before = span - 1
        pads = [before, total - before, *pads]
    return functional.pad(x, pads)


def _output(layer: Any, z: Tensor) -> Tensor:
    """Return what Keras's layer gives, given what torch's does."""
    if type(layer) in CONVOLUTIONS and layer.data_format == "channels_last":
        z = z.movedim(1, -1)
    activation = getattr(layer, "activation", None)
    return z if activation is None else activation(z)


def _place(layer: Any, model: Any) -> str:
    """Return the path of a layer; torch's names have no dots."""
    return layer.path.removeprefix(f"{model.name}/").replace(".", "_")


def _named(kind: type[Any], after: Any) -> type[Any]:
    """Return the class under the name of another, which reports will show."""
    return type(type(after).__name__, (kind,), {})


def _replaced(
    owner: Any, name: str, wrapper: Callable[[Any], Any]
) -> Callable[[], None]:
    """Put a method around an object's own; return what undoes it."""
    kept = vars(owner).get(name)
    vars(owner)[name] = wrapper(getattr(owner, name))

    def undo() -> None:
        if kept is None:
            del vars(owner)[name]
        else:
            vars(owner)[name] = kept

    return undo
