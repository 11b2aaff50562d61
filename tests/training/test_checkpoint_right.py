"""Facts in checkpoints of other people: nothing is executed, and nothing larger than the file is built."""

import json
import pickle
import resource
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import foveal
from foveal.training.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from foveal.training.recreate import ATTACHED


@pytest.fixture
def forged(tmp_path):
    """Return a function that writes a checkpoint whose facts were changed."""

    def write(change, name="small_cnn+se"):
        path = tmp_path / "m.safetensors"
        save_checkpoint(path, foveal.create_model(name, num_classes=3, in_chans=1), {})
        facts = read_checkpoint(path).facts
        change(facts)
        save_file(load_file(path), path, {"foveal": json.dumps(facts)})
        return path

    return write


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_a_checkpoint_reads_no_other_file(forged, tmp_path, option):
    weights = tmp_path / "w.pth"
    weights.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    path = forged(lambda facts: facts["options"].update({option: str(weights)}), "resnet20")
    facts = read_checkpoint(path).facts
    for backbone in ("resnet20", "resnet18", "timm:resnet18"):
        save_file(load_file(path), path, {"foveal": json.dumps({**facts, "backbone": backbone})})
        with pytest.raises(ValueError, match=rf"m.safetensors' unknown option of {backbone}.*{option}[^\n]*$"):
            load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def first(facts):
    return facts["attachments"][0]


WRONG = {
    "no JSON object": (lambda facts: facts.clear(), "states no 'backbone'"),
    "backbone": (lambda facts: facts.update(backbone=3), "states backbone=3; a str"),
    "backbone of the hub": (lambda facts: facts.update(backbone="hf-hub:a/b"), "unknown network 'hf-hub:a/b'"),
    "options": (lambda facts: facts.update(options=[1]), r"states options=\[1\]; a dict"),
    "no options": (lambda facts: facts.pop("options"), "states no 'options'"),
    "features": (lambda facts: facts["options"].update(features_only=True), "unknown option of small_cnn"),
    "NaN": (lambda facts: facts["options"].update(widths=[float("nan")]), "a finite number"),
    "a dict": (lambda facts: facts["options"].update(widths={"a": 1}), "a finite number"),
    "attachments": (lambda facts: facts.update(attachments={"a": 1}), "states attachments="),
    "attachment": (lambda facts: facts.update(attachments=["se"]), "an attachment that is a str"),
    "mechanism": (lambda facts: first(facts).update(mechanism="se2"), "unknown mechanism 'se2'; did you mean 'se'"),
    "mechanism of a module": (lambda facts: first(facts).update(mechanism="os.system"), "unknown mechanism"),
    "mechanism's type": (lambda facts: first(facts).update(mechanism=["se"]), r"states mechanism=\['se'\]"),
    "place": (lambda facts: first(facts).update(at=["features.99"]), "unknown place 'features.99'"),
    "pattern": (lambda facts: first(facts).update(at=["**a**a**a**"]), "unknown place"),
    "place's type": (lambda facts: first(facts).update(at=[3]), "a list of module paths"),
    "place's list": (lambda facts: first(facts).update(at="features.0"), "states at='features.0'; a list"),
    "no place": (lambda facts: first(facts).update(at=[]), "a list of module paths"),
    "position": (lambda facts: first(facts).update(position="infront"), "unknown position 'infront'"),
    "identity": (lambda facts: first(facts).update(identity=1), "states identity=1; a bool"),
    "option": (lambda facts: first(facts)["options"].update(reductio=2), "'reductio'; did you mean 'reduction'"),
    "option's value": (lambda facts: first(facts)["options"].update(reduction=[{}]), "a finite number"),
    "an argument": (lambda facts: first(facts)["options"].update(model=1), "unknown option of se"),
}


@pytest.mark.parametrize("case", WRONG)
def test_facts_of_another_kind_are_one_line(forged, case):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=rf"m.safetensors' [^\n]*{message}[^\n]*$"):
        load_checkpoint(forged(change))


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 5000 + "]" * 5000])
def test_facts_that_are_no_json_object_are_one_line(tmp_path, text):
    save_file({"a": torch.ones(1)}, tmp_path / "m.safetensors", {"foveal": text})
    with pytest.raises(ValueError, match=r"m.safetensors': its facts are [^\n]*$"):
        load_checkpoint(tmp_path / "m.safetensors")


SWIN = "swin_tiny_patch4_window7_224:embed_dim=8,depths=(2,2),num_heads=(1,1)"
LARGE = {
    "layers": ("resnet18", lambda facts: facts["options"].update(layers=[10**6] * 4)),
    "blocks": ("resnet20", lambda facts: facts["options"].update(extra_blocks=1e9)),
    "more blocks": ("resnet20", lambda facts: facts["options"].update(extra_blocks=10**9)),
    "width": ("resnet20", lambda facts: facts["options"].update(width=1e6)),
    "classes": ("resnet20", lambda facts: facts["options"].update(num_classes=10**9)),
    "a little wider": ("resnet20", lambda facts: facts["options"].update(width=500)),
    "a little deeper": ("resnet20", lambda facts: facts["options"].update(extra_blocks=60)),
    "attachments": ("small_cnn+se", lambda facts: facts.update(attachments=facts["attachments"] * 1000)),
    "some attachments": ("small_cnn+se", lambda facts: facts.update(attachments=facts["attachments"] * 9)),
    "branches": ("small_cnn+se", lambda facts: first(facts).update(mechanism="sk", options={"dilations": [1] * 5000})),
    "widths": ("small_cnn", lambda facts: facts["options"].update(widths=[8] * 900)),
    "modules": ("attention56", lambda facts: facts["options"].update(modules=[1, 10**6, 1])),
    "another backbone": ("small_cnn+se", lambda facts: facts.update(backbone="vit_gigantic_patch14_224", options={})),
    "attachments at other places": (
        "small_cnn+se",
        lambda facts: facts.update(attachments=[{**first(facts), "at": [f"features.{i}"]} for i in (0, 1, 2)] * 3),
    ),
    "masks": (SWIN, lambda facts: facts["options"].update(img_size=7 * 2048)),
    "many glimpses": ("two_stn_cnn", lambda facts: facts["options"].update(transformers=10**7)),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_network_larger_than_its_file_is_refused_quickly_and_without_memory(forged, case):
    name, change = LARGE[case]
    path = forged(change, name)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match=r"^checkpoint '[^\n]*(larger|does not hold|cannot build|at most)[^\n]*$"):
        load_checkpoint(path)
    assert time.process_time() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


@pytest.mark.parametrize(
    "name",
    ["small_cnn+se", "resnet20:extra_blocks=2+cbam", "two_stn_cnn", "ram:glimpses=3,size=4", "small_cnn+stn:size=8+ge",
     "resnet18:layers=(1,1,1,1)+se:at=residual", "sk_shufflenet_v2_x1_0", "attention92_cifar"],
)  # fmt: skip
def test_what_is_honest_goes_round(tmp_path, name):
    model = foveal.create_model(name, num_classes=3, in_chans=1).eval()
    save_checkpoint(tmp_path / "m.safetensors", model, {})
    other, _ = load_checkpoint(tmp_path / "m.safetensors")
    images = torch.rand(2, 1, 42, 42)
    assert torch.equal(other(images), model(images))
    save_checkpoint(tmp_path / "n.safetensors", other, {})
    assert read_checkpoint(tmp_path / "n.safetensors").facts == read_checkpoint(tmp_path / "m.safetensors").facts


def test_what_a_checkpoint_may_not_carry_is_refused_when_it_is_written(tmp_path):
    model = foveal.create_model("small_cnn+se", num_classes=3)
    model.made_as["options"]["features_only"] = True
    with pytest.raises(ValueError, match="cannot be written to a checkpoint: unknown option of small_cnn"):
        save_checkpoint(tmp_path / "m.safetensors", model, {})
    assert not list(tmp_path.iterdir())


def test_as_many_attachments_as_anyone_makes_are_possible(forged):
    assert ATTACHED >= 32
    with pytest.raises(ValueError, match=f"names 1000 attachments; at most {ATTACHED}"):
        load_checkpoint(forged(lambda facts: facts.update(attachments=facts["attachments"] * 1000)))
