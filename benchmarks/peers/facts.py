"""What a network is made of, whoever made it: numbers and operations of its ONNX graph.

A torch model is exported as it is (torch.onnx, no optimisation), so that all tools are
judged by the same eyes.
"""

import contextlib
import io
import logging
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import numpy_helper

logging.getLogger("torch.onnx").setLevel(logging.ERROR)
ZERO = 1e-6  # of a tensor's spread: what is left of a mean that was taken off


@dataclass(frozen=True)
class Facts:
    """The tensors of floating-point numbers that a graph holds, and its operations."""

    tensors: list
    ops: Counter

    @property
    def numbers(self):
        return sum(t.size for t in self.tensors)

    @property
    def live(self):
        """How many are neither 0 nor 1, the bias and the gain of what has none."""
        return sum(np.count_nonzero((t != 0) & (t != 1)) for t in self.tensors)

    @property
    def nodes(self):
        return self.ops.total()


def export(model, x):
    """Return the ONNX graph of a model as it computes in inference."""
    model.eval()
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        program = torch.onnx.export(model, (x,), optimize=False, verbose=False)
    return _without_zeros(program.model_proto)


def _without_zeros(proto):
    """Take off the zeros that a convolution without a bias is exported with.

    They are worked out from the input, in a way that hides a batch norm after it from
    most tools, which is no fault of theirs.
    """
    graph = proto.graph
    held = {t.name for t in graph.initializer}
    for node in graph.node:
        turned = node.op_type in {"Conv", "ConvTranspose"} and len(node.input) == 3
        if turned and node.input[2] not in held:
            del node.input[2]
    kept = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if kept.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            kept.update(node.input)
    return proto


def facts(proto):
    """Return what a graph holds; constants are numbers, not operations."""
    held = [numpy_helper.to_array(t) for t in proto.graph.initializer]
    ops = Counter()
    for node in (*proto.graph.node, *(n for f in proto.functions for n in f.node)):
        if node.op_type == "Constant":
            (value,) = node.attribute
            made = onnx.helper.get_attribute_value(value)
            if isinstance(made, onnx.TensorProto):
                held.append(numpy_helper.to_array(made))
            elif value.name in {"value_float", "value_floats"}:
                held.append(np.array(made))
        else:
            ops[node.op_type] += 1
    return Facts([t for t in held if t.dtype.kind == "f"], ops)


# Whether something is gone, by the facts before and after.


def fewer(count):
    """At least so many numbers are gone, or say nothing any more."""
    return lambda before, after: before.live - after.live >= count


def smaller(count):
    """At least so many numbers are gone, whatever they were."""
    return lambda before, after: before.numbers - after.numbers >= count


def without(*names):
    """None of these operations is left."""
    return lambda before, after: not any(after.ops[name] for name in names)


def rarer(name):
    """There are fewer operations of this name."""
    return lambda before, after: after.ops[name] < before.ops[name]


def both(*parts):
    return lambda before, after: all(part(before, after) for part in parts)


def keeps(name):
    """The operation is still there."""
    return lambda before, after: bool(after.ops[name])


def centred(*shape, axis=0):
    """The tensor of this shape, whichever way it lies, has no mean along an axis."""

    def gone(before, after):
        for t in after.tensors:
            turns = [t, t.T] if t.ndim == 2 else [t]
            if t.size == math.prod(shape) and any(s.shape == shape for s in turns):
                this = next(s for s in turns if s.shape == shape)
                if abs(this.mean(axis)).max() < ZERO * this.std():
                    return True
        return False

    return gone


def centred_groups(groups, channels):
    """Some vector of so many channels has no mean within each group."""

    def gone(before, after):
        vectors = [t.reshape(groups, -1) for t in after.tensors if t.size == channels]
        return any(abs(v.mean(1)).max() < ZERO * v.std() for v in vectors if v.any())

    return gone
