"""The vocabulary of a graph: what each aten operation does to a tensor's axes."""

from typing import Any

from torch import fx


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


SAME = words("clone alias detach _to_copy to lift_fresh contiguous type_as _conj")
SHAPE = words(
    "view reshape _unsafe_view flatten unflatten squeeze unsqueeze transpose permute "
    "t expand movedim"
)
DROPOUT = words(
    "dropout native_dropout alpha_dropout feature_dropout feature_alpha_dropout"
)
ACTIVATIONS = {
    **{
        name: name
        for name in words(
            "relu relu6 leaky_relu elu celu selu gelu silu mish tanh sigmoid "
            "softplus hardsigmoid hardswish softmax log_softmax exp prelu "
            "log_sigmoid softsign rrelu tanhshrink hardshrink softshrink "
            "sin"
        )
    },
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "_prelu_kernel": "prelu",
    "log_sigmoid_forward": "log_sigmoid",
    "rrelu_with_noise": "rrelu",
    "rrelu_with_noise_functional": "rrelu",
}
NORMS = {
    "batch_norm": "batch-norm",
    "native_batch_norm": "batch-norm",
    "cudnn_batch_norm": "batch-norm",
    "_batch_norm_with_update_functional": "batch-norm",
    "_native_batch_norm_legit": "batch-norm",
    "_native_batch_norm_legit_functional": "batch-norm",
    "_native_batch_norm_legit_no_training": "batch-norm",
    "instance_norm": "instance-norm",
    "group_norm": "group-norm",
    "native_group_norm": "group-norm",
    "layer_norm": "layer-norm",
    "native_layer_norm": "layer-norm",
    "rms_norm": "rms-norm",
    "_fused_rms_norm": "rms-norm",
}
PRODUCTS = words("mul div true_divide")
SUMS = words("add sub rsub where maximum minimum lerp masked_fill")
UNARY = words(
    "abs neg pow sqrt rsqrt reciprocal square log log1p expm1 erf cos clamp clamp_min "
    "clamp_max sign nan_to_num fill copy bernoulli floor round threshold hardtanh "
    "gt ge lt le zeros_like"
)
POINTWISE = SAME | DROPOUT | PRODUCTS | SUMS | UNARY | ACTIVATIONS.keys()
REDUCTIONS = words(
    "mean sum amax amin max min var std logsumexp linalg_vector_norm norm median prod"
)
# They commute with every rising function: relu(max z) = max relu(z).
MAX_POOLS = words(
    "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices "
    "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d"
)
NOTHING_READ = words(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros "
    "new_ones new_empty new_full bernoulli_like sym_size"
)


def op(node: fx.Node) -> str:
    """Return "linear" for `aten.linear.default`, "getitem", or "" for an input."""
    if node.op != "call_function":
        return ""
    packet = getattr(node.target, "overloadpacket", node.target)
    return getattr(packet, "__name__", "").rpartition(".")[2]


def value(node: fx.Node) -> Any:
    """Return the fake tensor of a node; of the first output where there are many."""
    found = node.meta.get("val")
    while isinstance(found, (tuple, list)) and found:
        found = found[0]
    return found


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's (first) tensor; () where it is none."""
    found = value(node)
    return tuple(found.shape) if hasattr(found, "shape") else ()


def argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """Return an argument given by position or by name."""
    if len(node.args) > index:
        return node.args[index]
    return node.kwargs.get(name, default)
