"""The contract that every mechanism keeps: a row in `TABLE` inherits all of it.

Hard mechanisms keep another one, `HARD_CONTRACT`, each in a test file of its own.
"""

from dataclasses import dataclass, field

import pytest
import torch
import torch.fx
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.mechanisms.bam import BAM
from foveal.mechanisms.cbam import CBAM, SpatialGate
from foveal.mechanisms.coordinate import Coordinate
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.gather_excite import GatherExcite
from foveal.mechanisms.global_context import GlobalContext
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.registry import MECHANISMS, short_name
from foveal.mechanisms.residual_mask import ResidualMask
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.self_attention import SelfAttention
from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.surgery.attach import attach

CHANNELS = 16


@dataclass(frozen=True)
class Row:
    mechanism: type[nn.Module]
    axes: tuple[str, ...]  # of the Records, in order
    options: dict = field(default_factory=dict)
    identity: bool = True  # whether it takes `identity`
    born_with: tuple[str, ...] = ("strength",)  # what learns at birth under identity
    switch: str = "strength"  # the weights that switch it on
    exact: bool = True  # whether the identity is bitwise
    fused: bool = False  # one operation does it all while nobody watches: then sums are taken in another order
    crop: tuple[int, int] | None = None  # the size that it gives out, where that is not its input's

    def make(self, **more) -> nn.Module:
        return randomise_norms(self.mechanism(CHANNELS, **self.options, **more))


def transformer(axes: str = "B 2 3", **options) -> Row:
    return Row(
        SpatialTransformer,
        (axes,),
        options,
        identity=False,
        born_with=("localisation.regression",),
        switch="regression.bias",
        exact=False,
        crop=options.get("size"),
    )


TABLE = {
    "se": Row(SqueezeExcite, ("B C",), {"reduction": 4}),
    "se, no bias": Row(SqueezeExcite, ("B C",), {"reduction": 4, "bias": False}),
    "se, rounded": Row(SqueezeExcite, ("B C",), {"divisor": 8}),
    "sk": Row(SelectiveKernel, ("B K C",), {"groups": 4}, born_with=("strength", "branches.0")),
    "sk, three branches": Row(
        SelectiveKernel, ("B K C",), {"groups": 4, "dilations": (1, 2, 3)}, born_with=("strength", "branches.0")
    ),
    "sk, a 1x1 branch": Row(
        SelectiveKernel, ("B K C",), {"groups": 4, "dilations": (1, 0)}, born_with=("strength", "branches.0")
    ),
    "eca": Row(EfficientChannel, ("B C",)),
    "eca, five neighbours": Row(EfficientChannel, ("B C",), {"kernel_size": 5}),
    "ge": Row(GatherExcite, ("B C",)),
    "ge, local": Row(GatherExcite, ("B C H W",), {"extent": 4}),
    "ge, perceptron": Row(GatherExcite, ("B C",), {"plus": True, "reduction": 4}),
    "ge, theta": Row(GatherExcite, ("B C",), {"theta": True, "size": 7}),
    "ge, theta, local": Row(GatherExcite, ("B C H W",), {"theta": True, "extent": 4}),
    "ge, theta+": Row(GatherExcite, ("B C",), {"theta": True, "plus": True, "size": (7, 5), "reduction": 4}),
    "ge, theta+, local": Row(GatherExcite, ("B C H W",), {"theta": True, "plus": True, "extent": 2, "reduction": 4}),
    "gc": Row(GlobalContext, ("B H W",), {"reduction": 4}, identity=False, born_with=("fc2",), switch="fc2"),
    "spatial": Row(SpatialGate, ("B H W",)),
    "coord": Row(Coordinate, ("B C H", "B C W")),
    "cbam": Row(CBAM, ("B C", "B H W"), {"reduction": 4}),
    "nl": Row(NonLocal, ("B H W Y X",), identity=False, born_with=("norm",), switch="norm", fused=True),
    "nl, subsampling": Row(
        NonLocal,
        ("B H W Y X",),
        {"subsample": True},
        identity=False,
        born_with=("norm",),
        switch="norm",
        fused=True,
    ),
    "mhsa": Row(SelfAttention, ("B G H W Y X",), {"reduction": 1}, born_with=("out",), switch="out", fused=True),
    "residual mask": Row(ResidualMask, ("B C H W",)),
    "bam": Row(BAM, ("B C H W",), {"reduction": 4}),
    "bam, released": Row(BAM, ("B C H W",), {"reduction": 4, "released": True}),
    "stn": transformer(),
    "stn, cropping": transformer(size=(5, 8), padding=0.5),
    "stn, attention": transformer(family="attention"),
    "stn, rotation": transformer(family="rotation"),
    "stn, similarity": transformer(family="similarity"),
    "stn, projective": transformer("B 3 3", family="projective"),
    "stn, tps": transformer("B P 2", family="tps"),
    "stn, convolutional": transformer(localisation="convolutional"),
    "stn, linear": transformer(localisation="linear"),
}


OWN_OPERATORS = (  # rows that run another operator than the rows before
    *("se", "sk", "eca", "ge, local", "ge, theta, local", "gc", "coord", "cbam", "nl, subsampling", "mhsa", "bam"),
    *("residual mask", "stn", "stn, similarity", "stn, projective", "stn, tps"),
)

EXPORTED_LATER = ("stn, convolutional", "stn, linear")  # the ordinary tests export the transformer with another net


rows = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
own_operators = pytest.mark.parametrize("name", OWN_OPERATORS)


def shape_out(row: Row, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], *(row.crop or shape[2:]))


def test_every_mechanism_has_a_row():
    """Hard mechanisms have contracts in their own files; the map of CBAM is tested with it."""
    soft = {mechanism for mechanism in MECHANISMS.values() if not mechanism.hard}
    assert {row.mechanism for row in TABLE.values()} == soft
    assert {TABLE[name].mechanism for name in OWN_OPERATORS} == soft - {SpatialGate}


@rows
@pytest.mark.parametrize("shape", [(2, 12, 12), (3, 7, 9), (1, 1, 1), (2, 1, 5)])
def test_mechanism_keeps_shapes_and_accepts_a_batch_of_one(row, shape):
    batch, *size = shape
    module = row.make().eval()
    out = module(torch.rand(batch, CHANNELS, *size))
    assert out.shape == shape_out(row, (batch, CHANNELS, *size))
    assert out.isfinite().all()


@rows
def test_mechanism_trains_every_weight(row):
    module = row.make()
    learners = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not learners:
        pytest.skip("a mechanism without weights")
    optimizer = torch.optim.Adam(learners.values(), lr=1e-3)
    target = torch.rand(shape_out(row, (4, CHANNELS, 10, 10)))
    for _ in range(2):  # a transformer's features learn once its regression has left zero
        optimizer.zero_grad()
        ((module(torch.rand(4, CHANNELS, 10, 10)) - target) ** 2).sum().backward()
        optimizer.step()
    still = [name for name, weight in learners.items() if weight.grad is None or not weight.grad.abs().sum() > 0]
    assert not still


@rows
def test_mechanism_at_birth_trains_its_strength_first(row):
    module = row.mechanism(CHANNELS, **row.options, **({"identity": True} if row.identity else {}))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    learning = []
    for _ in range(2):
        optimizer.zero_grad()
        (module(torch.rand(4, CHANNELS, 10, 10)) ** 2).sum().backward()
        learning.append({name for name, weight in module.named_parameters() if weight.grad.abs().sum() > 0})
        optimizer.step()
    assert learning[0]
    assert all(any(part in name for part in row.born_with) for name in learning[0])
    assert learning[1] == {name for name, _ in module.named_parameters()}


@rows
def test_mechanism_gradients_agree_with_finite_differences(row):
    options = {**row.options, **({"groups": 2} if "groups" in row.options else {})}
    module = randomise_norms(row.mechanism(4, **options)).double().eval()
    for weight in module.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    assert torch.autograd.gradcheck(
        module, torch.rand(2, 4, 5, 6, dtype=torch.float64, requires_grad=True), atol=1e-4, fast_mode=True
    )


@rows
def test_watch_records_axes_and_ranges_of_every_mechanism(row):
    module = row.make().eval()
    images = torch.randn(3, CHANNELS, 10, 12)
    with foveal.watch(module) as seen:
        module(images)
    assert tuple(record.axes for record in seen) == row.axes
    for record in seen:
        sizes = dict(zip(record.axes.split(), record.values.shape, strict=True))
        expected = {
            "B": 3,
            "C": CHANNELS,
            "H": 10,
            "W": 12,
            "2": 2,
            "3": 3,
            "P": 16,
            "K": len(row.options.get("dilations", (1, 2))),
            "G": 4,
        }
        expected |= {"Y": 5, "X": 6} if row.options.get("subsample") else {"Y": 10, "X": 12}
        assert sizes == {axis: expected[axis] for axis in sizes}
        low, high = record.value_range
        assert low <= record.values.min()
        assert record.values.max() <= high
        assert MECHANISMS[short_name(record.mechanism)] is row.mechanism


@rows
def test_watch_keeps_the_output_of_every_mechanism(row):
    module = row.make().eval()
    images = torch.randn(3, CHANNELS, 10, 12)
    plain = module(images)
    with foveal.watch(module):
        watched = module(images)
    if row.fused:
        torch.testing.assert_close(watched, plain, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(watched, plain)


@rows
def test_mechanism_state_dict_round_trip(row):
    module, other = row.make().eval(), row.make().eval()
    for weight in module.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    other.load_state_dict(module.state_dict())
    images = torch.randn(2, CHANNELS, 9, 9)
    assert torch.equal(module(images), other(images))


@own_operators
def test_mechanism_compiles_as_one_graph(name):
    torch._dynamo.reset()
    module = TABLE[name].make().eval()
    images = torch.randn(2, CHANNELS, 9, 9)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), module(images))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_mechanisms_compile_with_inductor():
    """Compile one graph of mechanisms of each kind: C++ of a graph takes ten seconds."""
    torch._dynamo.reset()
    kinds = ("se", "sk", "ge, local", "cbam", "nl", "stn")
    module = nn.Sequential(*(TABLE[name].make() for name in kinds)).eval()
    images = torch.randn(2, CHANNELS, 9, 9)
    with torch._inductor.config.patch(compile_threads=1):
        compiled = torch.compile(module, fullgraph=True)(images)
    torch.testing.assert_close(compiled, module(images), rtol=1e-4, atol=1e-5)


DYNAMIC = (  # torch.export treats a map that a stride brings down to one position as another case: none of 4 here
    {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("height", min=5), 3: torch.export.Dim("width", min=5)},
)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[pytest.mark.exhaustive] * (name in EXPORTED_LATER)) for name, row in TABLE.items()],
    ids=TABLE,
)
def test_mechanism_exports_for_any_batch_and_size_without_tap(row):
    module = moved_from_start(row).eval()
    exported = torch.export.export(module, (torch.randn(2, CHANNELS, 12, 12),), dynamic_shapes=DYNAMIC)
    images = torch.randn(3, CHANNELS, 9, 15)
    torch.testing.assert_close(exported.module()(images), module(images))
    assert not [node for node in exported.graph.nodes if "tap" in str(node.target)]


@rows
@pytest.mark.parametrize("training", [False, True])
def test_mechanism_is_traced_by_fx(row, training):
    module = nn.Sequential(moved_from_start(row)).train(training)  # at the root, an optional argument is an input
    traced = torch.fx.symbolic_trace(module)
    for shape in ((2, CHANNELS, 12, 12), (3, CHANNELS, 9, 15)):
        images = torch.randn(shape)
        assert torch.equal(traced(images), module(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (name not in ("se", "sk", "cbam", "stn")))
        for name in OWN_OPERATORS
    ],
)  # the others in CI
def test_mechanism_runs_in_onnx_at_another_batch_and_size(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, path = moved_from_start(TABLE[name]).eval(), tmp_path / "mechanism.onnx"
    images = torch.randn(2, CHANNELS, 12, 12)
    torch.onnx.export(module, (images,), path, dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    session = onnxruntime.InferenceSession(path)
    other = torch.randn(3, CHANNELS, 9, 15)
    (answer,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), module(other), rtol=1e-4, atol=1e-5)


def moved_from_start(row: Row) -> nn.Module:
    """Mechanism with perturbed weights."""
    module = row.make()
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return module


@rows
def test_mechanism_runs_in_bfloat16(row):
    module = row.make(**({"identity": True} if row.identity else {})).eval()
    images = torch.randn(2, CHANNELS, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(images.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), module(images), rtol=0.05, atol=0.05)


@rows
def test_mechanism_keeps_channels_last(row):
    module = row.make().eval().to(memory_format=torch.channels_last)
    images = torch.randn(2, CHANNELS, 9, 9).contiguous(memory_format=torch.channels_last)
    out = module(images)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, module(images.contiguous()))


class Host(nn.Module):
    """Network with a place for every mechanism."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)
        )
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))


@rows
def test_attach_every_mechanism_is_identity_at_birth_and_active_later(row):
    if row.crop:
        pytest.skip("a crop to another size is no identity")
    host = randomise_norms(Host()).eval()
    images = torch.randn(4, 3, 11, 13)
    plain = host(images)
    attach(host, row.mechanism, at="block", **row.options)
    born = host(images)
    if row.exact:
        assert torch.equal(born, plain)
    else:
        assert (born - plain).abs().max() <= 1e-5 * plain.abs().max()
    with torch.no_grad():
        for name, weight in host.named_parameters():
            if name.startswith("block") and row.switch in name:
                weight += 0.5
    assert not torch.allclose(host(images), plain, rtol=1e-3)


@rows
def test_attach_every_mechanism_without_identity_is_active(row):
    if not row.identity:
        pytest.skip("a transformer starts at the identity in its paper, too")
    host = randomise_norms(Host()).eval()
    images = torch.randn(4, 3, 11, 13)
    plain = host(images)
    attach(host, row.mechanism, at="block", identity=False, **row.options)
    assert not torch.allclose(host(images), plain, rtol=1e-3)


@pytest.mark.parametrize(
    ("mechanism", "options", "message"),
    [
        (SqueezeExcite, {"reduction": 0}, "reduction=0"),
        (SqueezeExcite, {"channels": 0}, "channels=0"),
        (SelectiveKernel, {"groups": 5}, "groups=5 does not divide the channels, 16 in and 16 out"),
        (SelectiveKernel, {"dilations": (1,)}, r"dilations=\(1,\)"),
        (SelectiveKernel, {"dilations": 2}, "dilations=2"),
        (CBAM, {"kernel_size": 4}, "kernel_size=4"),
        (NonLocal, {"reduction": 0}, "reduction=0"),
        (SelfAttention, {"heads": 0}, "heads=0"),
        (SelfAttention, {"size": 0}, "size=0"),
        (ResidualMask, {"depth": 0}, "depth=0"),
        (SelectiveKernel, {"groups": 4, "dilations": (1, -1)}, r"dilations=\(1, -1\)"),
        (SpatialTransformer, {"padding": "zeros"}, "padding='zeros'"),
        (SpatialTransformer, {"size": 0}, "size=0"),
        (SpatialTransformer, {"family": "afine"}, "unknown family 'afine'; did you mean 'affine'"),
    ],
)
def test_mechanism_refuses_impossible_arguments(mechanism, options, message):
    with pytest.raises(ValueError, match=message):
        mechanism(**{"channels": CHANNELS, **options})
