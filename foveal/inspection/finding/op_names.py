"""Names of torch functions, and what each does to the weights or maps that pass through it, for the trial pass."""

from typing import Any

FUSED = ("scaled_dot_product_attention", "multi_head_attention_forward")

SHAPES = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "transpose",
        "permute",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
        "contiguous",
        "to",
        "float",
        "half",
        "double",
        "bfloat16",
        "type",
        "type_as",
        "clone",
        "chunk",
        "split",
        "split_with_sizes",
        "tensor_split",
        "unbind",
        "getitem",
        "narrow",
        "select",
        "movedim",
        "moveaxis",
        "swapaxes",
        "swapdims",
        "mT",
        "T",
        "H",
        "mH",
        "t",
        "view_as",
        "reshape_as",
        "detach",
        "broadcast_to",
        "repeat",
        "repeat_interleave",
        "tile",
        "pad",
        "roll",
        "flip",
        "alias",
        "data",
        "requires_grad_",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "feature_dropout",
        "alpha_dropout",
        "pixel_shuffle",
        "pixel_unshuffle",
        "cpu",
        "cuda",
    ]
)
LIKE = frozenset(["expand_as", "view_as", "reshape_as", "type_as"])  # of a second tensor, only the shape counts
EXPANDS = frozenset(["expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile"])
PARTS = frozenset(["chunk", "split", "split_with_sizes", "tensor_split", "unbind", "getitem", "narrow", "select"])
RESAMPLES = frozenset(["interpolate", "upsample", "upsample_nearest", "upsample_bilinear"])
ADDS = frozenset(["add", "sub", "rsub"])
SCALES = frozenset(["mul", "div"])
AFFINE = ADDS | SCALES | {"neg"}
POINTWISE = frozenset(
    [
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "tanh",
        "softplus",
        "hardswish",
        "hardtanh",
        "clamp",
        "clamp_min",
        "clamp_max",
        "sigmoid",
        "hardsigmoid",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "pow",
        "square",
        "abs",
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "rms_norm",
        "local_response_norm",
        "threshold",
        "hardshrink",
        "softsign",
        "logsigmoid",
        "erf",
        "sin",
        "cos",
        "nan_to_num",
        "masked_fill",
    ]
)
PRODUCTS = frozenset(["matmul", "bmm", "baddbmm", "einsum", "mm"])
MIXERS = frozenset(
    ["einsum", "linear", "conv1d", "conv2d", "matmul", "layer_norm", "batch_norm"]
)  # of heads, after a softmax
CONVOLUTIONS = frozenset(["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"])
WIDE = frozenset(  # a value of these depends on several positions
    [
        "mean",
        "sum",
        "amax",
        "amin",
        "max",
        "min",
        "var",
        "std",
        "var_mean",
        "std_mean",
        "logsumexp",
        "norm",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "lp_pool2d",
        "softmax",
        "cumsum",
        "matmul",
        "bmm",
        "einsum",
        "unfold",
        "fft_rfft2",
        "scaled_dot_product_attention",
    ]
)
POOLS = frozenset(
    ["avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "max_pool2d_with_indices", "lp_pool2d"]
)
REORDERS = frozenset(
    [
        "gather",
        "index_select",
        "sort",
        "topk",
        "argsort",
        "take",
        "take_along_dim",
        "masked_select",
        "index_put",
        "scatter",
    ]
)

SPELLINGS = {
    "truediv": "div", "true_divide": "div", "divide": "div", "rtruediv": "div", "rdiv": "div", "multiply": "mul",
    "rmul": "mul", "imul": "mul", "idiv": "div", "itruediv": "div", "iadd": "add", "radd": "add", "isub": "sub",
    "subtract": "sub", "rsub": "rsub", "negative": "neg", "expit": "sigmoid", "clip": "clamp", "rmatmul": "matmul",
    "imatmul": "matmul", "boolean_dispatch": "max_pool2d", "_max_pool2d": "max_pool2d", "concat": "cat",
    "concatenate": "cat", "special_expit": "sigmoid", "special_softmax": "softmax", "adjoint": "mT",
    "linalg_matmul": "matmul", "arctan": "atan",
    "scaled_dot_product_attention": "softmax", "multi_head_attention_forward": "softmax",
}  # fmt: skip


def op_name(func: Any) -> str:
    """Return one name for all spellings of a function: `x * y`, `x.mul_(y)` and `torch.mul` are "mul".

    A fused attention is named "softmax", whose weights it computes.
    """
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        name = getattr(func.__self__, "__name__", "")
        return name if name in SHAPES else ""
    plain = name.strip("_") if name != "requires_grad_" else name
    return SPELLINGS.get(plain, plain)


def is_fused(func: Any) -> bool:
    """Return True for a function that computes attention as a whole, without showing its weights."""
    return getattr(func, "__name__", "") in FUSED
