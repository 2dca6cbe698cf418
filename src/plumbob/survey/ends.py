"""Where a finite additive shift may end: normalisation and softmax."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import fx

from plumbob.survey.carry import interleaved
from plumbob.survey.domain import (
    End,
    Fate,
    Op,
    Shift,
    broadcast,
    channels,
    first,
    shape,
    statistics,
)
from plumbob.survey.masks import leaves_a_key

# Normalisation


_INSTANCE = End(
    "instance-norm", "instance norm subtracts each channel's mean, and it with it"
)


def _batch_norm(op: Op) -> Fate:
    x = op.only("input")
    if x is not None and op.arguments.get("training"):
        if not x.varies <= {1}:
            return None
        if len(x.axes[1]) > 1:  # instance norm: batch and channels on one axis
            return statistics(op, _INSTANCE)
        why = "batch norm subtracts each channel's mean over the batch, and it with it"
        if op.arguments.get("running_mean") is not None:
            why += "; only the running mean follows it"
        fate: Fate = End("batch-norm", why)
    elif x is not None:
        axes = list(x.axes)
        axes[1] = tuple((n, True) for n, _ in axes[1])
        fate = replace(x, axes=tuple(axes))
    elif (bias := op.only("bias")) is not None:
        fate = channels(first(op), bias)
    else:
        return None
    return statistics(op, fate)


def _instance_norm(op: Op) -> Fate:
    x, bias = op.only("input"), op.only("bias")
    if bias is not None:
        return channels(op, bias)
    if x is None or not op.arguments["use_input_stats"] or not x.varies <= {0, 1}:
        return None
    return _INSTANCE


def _layer_norm(op: Op) -> Fate:
    x, bias, one = op.only("input"), op.only("bias"), first(op)
    count = len(one.shape)
    inner = set(range(count - len(op.arguments["normalized_shape"]), count))
    if bias is not None:
        return statistics(op, broadcast(bias, one.shape))
    if x is None or x.varies & inner:
        return None
    why = "layer norm subtracts the mean, and it with it"
    return statistics(op, End("layer-norm", why))


def _group_norm(op: Op) -> Fate:
    x, bias, one = op.only("input"), op.only("bias"), first(op)
    if bias is not None:
        return statistics(op, channels(one, bias))
    if x is None or not x.varies <= {0, 1}:
        return None
    groups = op.arguments.get("num_groups") or op.arguments["group"]
    if x.run(1) % (one.shape[1] // groups):
        return None
    why = "group norm subtracts each group's mean, and it with it"
    return statistics(op, End("group-norm", why))


# Attention


def _softmax(op: Op) -> Fate:
    x = op.only("self")
    axis = op.arguments["dim"] % len(op.shape)
    if x is None or axis in x.varies:
        return None
    if x.asked:
        why = f"softmax over keys (axis {axis}) removes what all keys share"
        return End("softmax-key", why)
    return End("softmax", f"softmax over axis {axis} removes what is constant there")


def _attention(op: Op) -> Fate:
    key, value, one = op.shift("key"), op.shift("value"), first(op)
    others = (v for k, v in op.arguments.items() if k not in {"key", "value"})
    if op.moved() & {v for v in others if isinstance(v, fx.Node)}:
        return None
    if key is not None and len(key.axes) - 2 in key.varies:
        return None
    if value is None:
        why = "softmax over keys removes what all keys share"
        return statistics(op, End("softmax-key", why))
    mask = op.arguments.get("attn_mask", op.arguments.get("attn_bias"))
    dropped = op.arguments["dropout_p"] or not leaves_a_key(mask)
    if len(value.axes) - 2 in value.varies or dropped:
        return None  # the weights of a row need not sum to one
    value = _read(value, shape(op.arguments["value"]), one.shape)
    if value is None:
        return None
    axes = (*value.axes[:-2], ((one.shape[-2], False),), value.axes[-1])
    within = tuple(w for w in value.within if w[0] != len(axes) - 2)
    return statistics(op, replace(value, axes=axes, within=within))


def _read(value: Shift, sizes: Sequence[int], out: Sequence[int]) -> Shift | None:
    """Return the values as the heads of queries read them: groups of them share one."""
    if sizes[:-2] == out[:-2]:
        return value
    if len(sizes) != len(out) or sizes[:-3] != out[:-3]:
        return None
    heads, queries = sizes[-3], out[-3]
    if not heads or queries % heads:
        return None
    return interleaved(value, len(sizes) - 3, queries // heads)


ENDS: dict[str, Callable[[Op], Fate]] = {
    **dict.fromkeys(("batch_norm", "native_batch_norm"), _batch_norm),
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_functional": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "instance_norm": _instance_norm,
    **dict.fromkeys(("layer_norm", "native_layer_norm"), _layer_norm),
    **dict.fromkeys(("group_norm", "native_group_norm"), _group_norm),
    **dict.fromkeys(("softmax", "_softmax", "_safe_softmax"), _softmax),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _softmax),
    "scaled_dot_product_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
}
