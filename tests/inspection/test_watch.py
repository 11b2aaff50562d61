"""Records of a watched model: paths, values, batches, hooks."""

import copy

import pytest
import torch
from helpers import vary_weights, watch_once
from timm import layers
from torch import nn
from torch.utils.checkpoint import checkpoint

import foveal
from foveal.core.record import Tap
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.mechanisms.squeeze_excite import SqueezeExcite

CHANNELS = 16


def test_watch_moves_values_to_a_device_and_type():
    model, images = nn.Sequential(vary_weights(layers.SEModule(CHANNELS))), torch.rand(2, CHANNELS, 4, 4)
    whole, _ = watch_once(model, images)
    half, _ = watch_once(model, images, device="cpu", dtype=torch.float16)
    assert torch.equal(half["0"].values, whole["0"].values.half())
    with pytest.raises(ValueError, match="keep='both'"):
        foveal.watch(model, keep="both")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), SqueezeExcite(8, 2))
        self.submodule = CBAM(8, 2)

    def forward(self, x):
        return self.submodule(self.first(x)).mean((2, 3))


def count_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def test_watch_records_under_module_paths():
    model = Net().eval()
    with foveal.watch(model) as seen:
        model(torch.rand(2, 3, 6, 6))
    assert seen.paths() == ["first.1", "submodule.channel", "submodule.spatial"]
    assert len(seen) == 3
    assert [record.path for record in seen] == seen.paths()
    assert not seen.unseen
    record = seen["first.1"]
    assert (record.mechanism, record.kind, record.domain, record.hard) == ("squeeze_excite", "gate", "channel", False)
    assert not record.values.requires_grad


def test_watch_records_effective_weights():
    model = SqueezeExcite(4, identity=True)
    with foveal.watch(model) as seen:
        model(torch.rand(2, 4, 3, 3))
    assert next(iter(seen)).values.eq(1).all()


def test_watch_unknown_path_lists_the_known_ones():
    model = Net().eval()
    with foveal.watch(model) as seen:
        model(torch.rand(1, 3, 6, 6))
    with pytest.raises(KeyError, match=r"states 2 Records; ask for one: submodule.channel, submodule.spatial"):
        seen["submodule"]
    with pytest.raises(KeyError, match=r"unknown place 'frist.1'; did you mean 'first.1'"):
        seen["frist.1"]


def test_watch_joins_batches():
    model = Net().eval()
    images = torch.rand(5, 3, 6, 6)
    with foveal.watch(model) as seen:
        for batch in images.split(2):
            model(batch)
    with foveal.watch(model) as at_once:
        model(images)
    torch.testing.assert_close(seen["first.1"].values, at_once["first.1"].values)


def test_watch_records_each_call_of_a_module():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.se = SqueezeExcite(4, 2)

        def forward(self, x):
            return self.se(self.se(x) + 1)

    model = Twice()
    with foveal.watch(model) as seen:
        model(torch.rand(2, 4, 3, 3))
        model(torch.rand(3, 4, 3, 3))
    assert seen.paths() == ["se#1", "se#2"]
    assert [record.call for record in seen] == [0, 1]
    assert seen["se#2"].values.shape == (5, 4)
    with pytest.raises(KeyError, match="2 Records"):
        seen["se"]


def test_watch_reports_a_module_that_is_never_called():
    model = Net()
    model.forgotten = SqueezeExcite(8)
    with foveal.watch(model) as seen:
        model(torch.rand(1, 3, 6, 6))
    assert seen.unseen == {"forgotten": "never called"}
    with pytest.raises(KeyError, match="was not recorded: never called"):
        seen["forgotten"]


def test_watch_records_a_part_called_alone():
    model = Net().eval()
    with foveal.watch(model) as seen:
        model.first(torch.rand(2, 3, 6, 6))
        model.first(torch.rand(1, 3, 6, 6))
    assert seen["first.1"].values.shape == (3, 8)


@pytest.mark.parametrize("fails", [False, True])
def test_watch_leaves_no_hooks(fails):
    model = Net()
    model.submodule.eval()
    modes = [module.training for module in model.modules()]
    try:
        with foveal.watch(model):
            model(torch.rand(1, 3, 6, 6))
            if fails:
                raise RuntimeError("inside")
    except RuntimeError:
        assert fails
    assert count_hooks(model) == 0
    assert modes == [module.training for module in model.modules()]


def test_watch_leaves_no_hooks_in_a_copy():
    model = Net().eval()
    with foveal.watch(model) as seen:
        model(torch.rand(1, 3, 6, 6))
        ema = copy.deepcopy(model)
        ema(torch.rand(1, 3, 6, 6))
    assert seen["first.1"].values.shape[0] == 1
    assert count_hooks(ema) == 0


def test_watch_records_recomputation_once():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.se = SqueezeExcite(4, 2)

        def forward(self, x):
            return checkpoint(self.se, x, use_reentrant=False)

    model = Checkpointed()
    with foveal.watch(model) as seen:
        model(torch.rand(2, 4, 3, 3, requires_grad=True)).sum().backward()
    assert seen["se"].values.shape == (2, 4)


def test_watch_records_a_model_compiled_before():
    torch._dynamo.reset()
    model = torch.compile(Net().eval(), backend="aot_eager")
    images = torch.rand(2, 3, 6, 6)
    plain = model(images)
    with foveal.watch(model) as seen:
        torch.testing.assert_close(model(images), plain)
    assert seen.paths() == ["first.1", "submodule.channel", "submodule.spatial"]


def test_watch_records_plain_paths_of_wrapped_models():
    model = nn.DataParallel(Net().eval())
    with foveal.watch(model) as seen:
        model(torch.rand(2, 3, 6, 6))
    assert seen.paths() == ["first.1", "submodule.channel", "submodule.spatial"]


def test_watch_refuses_a_model_without_attention():
    with pytest.raises(ValueError, match="Sequential: no attention was found, by name or in a trial pass; foveal"):
        foveal.watch(nn.Sequential(nn.Conv2d(3, 2, 1)))


def test_watch_records_two_taps_of_one_owner():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            facts = SqueezeExcite(4).tap.facts
            self.height, self.width = Tap(facts), Tap(facts)

        def forward(self, x):
            return x * self.height(x.mean(3).mean(2))[..., None, None] * self.width(x.mean(2).mean(2))[..., None, None]

    model = nn.Sequential(Both())
    with foveal.watch(model) as seen:
        model(torch.rand(2, 4, 3, 3))
    assert seen.paths() == ["0.height", "0.width"]


def test_watch_keeps_the_name_of_a_custom_module_called_module():
    model = nn.ModuleDict({"module": SqueezeExcite(4, 2), "se": SqueezeExcite(4, 2)})
    with foveal.watch(model) as seen:
        model["module"](torch.rand(1, 4, 2, 2))
    assert seen.paths() == ["module"]
    assert seen.unseen == {"se": "never called"}


def test_watch_forgets_a_pass_that_fails():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = SqueezeExcite(4, 2), SqueezeExcite(4, 2)

        def forward(self, x, fail=False):
            x = self.first(x)
            if fail:
                raise RuntimeError("half-way")
            return self.second(x)

    model = Fails()
    with foveal.watch(model) as seen:
        model(torch.rand(2, 4, 3, 3))
        with pytest.raises(RuntimeError, match="half-way"):
            model(torch.rand(2, 4, 3, 3), fail=True)
    assert [len(record.values) for record in seen] == [2, 2]


@pytest.mark.parametrize("stops", [RuntimeError, KeyboardInterrupt])
def test_watch_statistics_keep_completed_passes(stops):
    """Also after KeyboardInterrupt, after which no hook runs, and after a loader that failed between batches."""

    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = SqueezeExcite(4, 2), SqueezeExcite(4, 2)

        def forward(self, x):
            x = self.first(x)
            if len(x) == 1:
                raise stops("half-way")
            return self.second(x)

    def see(batches):
        with foveal.watch(model, "statistics") as held[0]:
            for x in batches:
                model(x)

    def loader():
        yield parts[0]
        raise OSError("disk")

    model, parts, held = Fails(), [torch.rand(2, 4, 3, 3), torch.rand(3, 4, 3, 3)], [None]
    with foveal.watch(model) as values:
        for x in parts:
            model(x)
    with pytest.raises(stops):
        see([*parts, torch.rand(1, 4, 3, 3), torch.rand(7, 4, 3, 3)])
    assert [each.count for each in held[0]] == [5, 5]
    for path in ("first", "second"):
        torch.testing.assert_close(held[0][path].across_images.mean.float(), values[path].values.mean(0))
    with pytest.raises(OSError, match="disk"):
        see(loader())
    assert [each.count for each in held[0]] == [2, 2]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_watch_keeps_maps_of_several_sizes_apart():
    model = CBAM(8).eval()
    with foveal.watch(model) as seen:
        model(torch.rand(1, 8, 4, 4))
        model(torch.rand(1, 8, 6, 6))
    with pytest.raises(ValueError, match="'spatial': images of several sizes"):
        seen["spatial"]


def test_watch_values_are_copies():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]))

        def forward(self, x):
            return self.theta.expand(len(x), 2, 3)

    model = SpatialTransformer(1, localisation=Fixed())
    with foveal.watch(model) as seen:
        model(torch.rand(1, 1, 4, 4))
    with torch.no_grad():
        model.localisation.theta += 1
    assert next(iter(seen)).values[0, 0, 0] == 1


def test_watch_does_not_follow_copies_and_pickles():
    import pickle

    model = Net().eval()
    with foveal.watch(model) as seen:
        again = copy.deepcopy(copy.deepcopy(model))
        loaded = pickle.loads(pickle.dumps(model))  # noqa: S301
        again(torch.rand(1, 3, 6, 6))
        loaded(torch.rand(1, 3, 6, 6))
    assert len(seen) == 0
    assert count_hooks(again) == 0


class GatedTwice(nn.Module):
    """A network that uses one gate before and after its features' end."""

    def __init__(self, gate):
        super().__init__()
        self.g = gate

    def forward_features(self, x):
        return self.g(self.g(x) + 1)

    def forward(self, x):
        return self.forward_features(x).mean((2, 3))


class Pointwise(nn.Module):
    """A gate that no table knows, found in a trial pass."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return x * self.fc(x.mean((2, 3))).sigmoid()[..., None, None]


@pytest.mark.parametrize("keep", ["values", "statistics"])
@pytest.mark.parametrize(
    ("make", "extra"),
    [
        (lambda: SqueezeExcite(3, 1), None),
        (lambda: layers.SEModule(3, rd_channels=2), None),
        (Pointwise, None),
        (Pointwise, {Pointwise: ("sigmoid()", "gate")}),
    ],
)
def test_watch_takes_no_calls_of_a_part_for_images(make, extra, keep):
    model, x = GatedTwice(make()).eval(), torch.rand(2, 3, 8, 8)
    with torch.no_grad(), foveal.watch(model, keep, extra=extra) as seen:
        model.forward_features(x)
        assert len(seen) == 0
        assert seen.unseen["g"].startswith("called several times in a pass, and only a part of the model was called;")
        model(x)
        model.forward_features(x)
    assert seen.paths() == ["g#1", "g#2"]
    assert [each.count if keep == "statistics" else len(each.values) for each in seen] == [2, 2]


def test_watch_takes_no_calls_of_a_part_for_images_where_the_trial_stopped():
    class Scaled(GatedTwice):
        def forward(self, x, scale):
            return super().forward(x) * scale

    model, x = Scaled(SqueezeExcite(3, 1)).eval(), torch.rand(2, 3, 8, 8)
    with torch.no_grad(), foveal.watch(model) as seen:
        model(x, 2.0)
        model.forward_features(x)
    assert [len(record.values) for record in seen] == [2, 2]
