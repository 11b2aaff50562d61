"""Options in names and keywords of networks: what a name may carry, and that no option reads a file."""

import pickle

import pytest
import torch

import foveal
from foveal.networks.builders import OWN
from foveal.networks.options import READ_FILES, option_names


class Payload:
    """A pickle of it writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    yield path
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("rest", ["", "+se"])
def test_a_name_reads_no_pickle(weights, rest):
    with pytest.raises(ValueError, match=r"^unknown option of resnet18 .*'checkpoint_path'; [^\n]*$"):
        foveal.create_model(f"resnet18:checkpoint_path={weights}{rest}")


@pytest.mark.parametrize("option", sorted(READ_FILES))
def test_a_keyword_reads_no_file(weights, option):
    value = {"file": str(weights)} if option.startswith("pretrained") else str(weights)
    with pytest.raises(ValueError, match=rf"{option}=.*would read a file.*foveal.load_weights[^\n]*$"):
        foveal.create_model("resnet18+se", **{option: value})


@pytest.mark.parametrize(
    "option",
    ["pretrained=True", "pretrained_cfg=x", "pretrained_strict=False", "features_only=True", "scriptable=True",
     "exportable=True", "no_jit=True", "cache_dir=x", "pruned=True", "device=cuda", "kwargs=1", "block=x"],
)  # fmt: skip
@pytest.mark.parametrize("network", ["resnet18", "timm:resnet18", "resnet20", "botnet50", "seresnet18"])
def test_what_is_no_architecture_is_refused_in_a_name(network, option):
    with pytest.raises(ValueError, match="unknown option of"):
        foveal.create_model(f"{network}:{option}")


def test_a_typo_names_the_nearest_option():
    with pytest.raises(ValueError, match="'drop_path_rat'; did you mean 'drop_path_rate'"):
        foveal.create_model("resnet18:drop_path_rat=0.1")
    with pytest.raises(ValueError, match=r"of ram .*'glimpse'; did you mean 'glimpses'"):
        foveal.create_model("ram:glimpse=3")


@pytest.mark.parametrize("text", ["{1:2}", "1e999", "b'x'", "(1,{2})"])
def test_a_value_that_is_not_plain_is_refused(text):
    with pytest.raises(ValueError, match=r"option drop_rate=.* a finite number"):
        foveal.create_model(f"resnet18:drop_rate={text}")
    with pytest.raises(ValueError, match=r"option reduction=.* a finite number"):
        foveal.create_model(f"resnet18+se:reduction={text}")


def test_an_option_given_twice_is_refused():
    with pytest.raises(ValueError, match="'drop_rate' is given twice"):
        foveal.create_model("resnet18:drop_rate=0.1,drop_rate=0.2")


def test_classes_in_a_name_are_refused_with_the_right_call():
    with pytest.raises(ValueError, match=r"write create_model\('resnet18', num_classes=5\)"):
        foveal.create_model("resnet18:num_classes=5")


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("resnet18:drop_rate=0.25", {}, lambda model: model.drop_rate == 0.25),
        ("resnet18:act_layer=gelu", {}, lambda model: type(model.act1).__name__ == "GELU"),
        ("seresnet18:reduction=8", {}, lambda model: model.layer1[0].se.fc1.out_features == 8),
        ("small_cnn:widths=(8,8,8,16)+eca", {}, lambda model: model.widths == (8, 8, 8, 16)),
        ("resnet18", {"norm_layer": torch.nn.InstanceNorm2d}, lambda model: type(model.bn1) is torch.nn.InstanceNorm2d),
        ("resnet18:layers=(1,1,1,1)", {}, lambda model: len(model.layer4) == 1),
    ],
)
def test_options_of_the_architecture_are_taken(name, options, shown):
    with torch.device("meta"):
        assert shown(foveal.create_model(name, **options))


@pytest.mark.parametrize("value", ["act_layer=nonesuch", "layers=3", "block_args=1"])
def test_a_value_that_timm_refuses_is_one_line(value):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        foveal.create_model(f"resnet18:{value}")


def test_no_allowed_option_reads_a_file():
    """None of timm's arguments beside those of the architecture is allowed for any network."""
    builders = {"pretrained", "pretrained_strict", "features_only", "scriptable", "exportable", "no_jit", "pruned"}
    for name in (*OWN, "resnet18"):
        assert not option_names(name) & (READ_FILES | builders | {"device", "dtype", "kwargs", "options", "block"})
