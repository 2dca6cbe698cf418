"""The tools, each as one function of a model or of an ONNX graph.

Each imports its package itself, so that one that is not installed is told so.
"""

import copy
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import onnx
from torch import nn

import plumbob


class NotForThisError(Exception):
    """A tool has nothing to say about a network."""


def mended(model, x, goal):
    """Return the fixed model, and the reasons of what was refused."""
    fixed, proof = plumbob.fix(model.train(goal == "training"), x, goal=goal)
    refused = (f"{one.rewrite} refused, {one.why}" for one in proof.refused)
    return fixed.eval(), list(dict.fromkeys(refused))


def fx_fuse(model, x, goal):
    from torch.fx.experimental.optimization import fuse

    return fuse(model.train(goal == "training")).eval(), []


def nn_fusion(model, x, goal):
    """Fuse by hand where two neighbours of an nn.Sequential are a map and its norm."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    model = copy.deepcopy(model).train(goal == "training")
    done = False
    for owner in model.modules():
        parts = list(owner) if isinstance(owner, nn.Sequential) else []
        for i, (one, two) in enumerate(pairwise(parts)):
            if not isinstance(two, nn.modules.batchnorm._BatchNorm):
                continue
            if isinstance(one, nn.Linear):
                owner[i], owner[i + 1] = fuse_linear_bn_eval(one, two), nn.Identity()
                done = True
            elif isinstance(one, nn.modules.conv._ConvNd):
                turned = isinstance(one, nn.modules.conv._ConvTransposeNd)
                owner[i] = fuse_conv_bn_eval(one, two, transpose=turned)
                owner[i + 1] = nn.Identity()
                done = True
    if not done:
        raise NotForThisError("two functions for a map and the BN after it, by hand")
    return model.eval(), []


def nothing(proto):
    return proto


def onnxoptimizer(proto):
    import onnxoptimizer as tool

    return tool.optimize(proto, tool.get_fuse_and_elimination_passes())


def onnxsim(proto):
    import onnxsim as tool

    simple, right = tool.simplify(proto)
    if not right:
        raise RuntimeError("its own comparison fails")
    return simple


def onnxslim(proto):
    import onnxslim as tool

    return tool.slim(proto)


def onnxscript(proto):
    import onnxscript.optimizer as tool

    return tool.optimize(proto)


def onnxruntime(proto):
    """Return the graph as the runtime itself would run it, save for its layouts."""
    import onnxruntime as tool

    with tempfile.TemporaryDirectory() as folder:
        options = tool.SessionOptions()
        options.graph_optimization_level = (
            tool.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        )
        options.optimized_model_filepath = os.fspath(Path(folder) / "model.onnx")
        tool.InferenceSession(proto.SerializeToString(), options)
        return onnx.load(options.optimized_model_filepath)


TORCH = {"plumbob": mended, "fx fuse": fx_fuse, "nn.utils.fusion": nn_fusion}
ONNX = {
    "(nothing)": nothing,
    "onnxoptimizer": onnxoptimizer,
    "onnxsim": onnxsim,
    "onnxslim": onnxslim,
    "onnxscript": onnxscript,
    "onnxruntime": onnxruntime,
}
