"""Checkpoints: names, round trips, errors."""

import errno
import json

import pytest
import torch
from torch import nn

import foveal
from foveal.ops.warps import FAMILIES
from foveal.surgery.attach import attach
from foveal.training.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint


@pytest.mark.parametrize("family", FAMILIES)
def test_save_checkpoint_keeps_every_transformer_family(family, tmp_path):
    model = foveal.create_model(f"small_cnn+stn:family={family}", num_classes=10, in_chans=1).eval()
    nn.init.normal_(model.stem[0].stn.localisation.regression.weight, std=0.1)
    save_checkpoint(tmp_path / "model.safetensors", model, {})
    loaded, _ = load_checkpoint(tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 42, 42)
    assert torch.equal(loaded(images), model(images))


class TestCheckpoint:
    def make(self):
        model = foveal.create_model("small_cnn+se", num_classes=3, reduction=4)
        attach(model, "sk", at="features.3", groups=8)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.05 * torch.randn_like(weight)
        return model.eval()

    def test_save_checkpoint_round_trip_with_plain_names(self, tmp_path):
        model = self.make()
        save_checkpoint(tmp_path / "m.safetensors", model, {"note": "mine"})
        other, checkpoint = load_checkpoint(tmp_path / "m.safetensors")
        x = torch.rand(2, 3, 20, 20)
        assert torch.equal(other(x), model(x))
        assert checkpoint.facts["note"] == "mine"
        assert checkpoint.facts["backbone"] == "small_cnn"
        assert "features.3.conv.weight" in checkpoint.weights

    def test_save_checkpoint_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("foveal.core.files.os.fsync", fail)
        with pytest.raises(OSError, match=r"No space left on device: '.*m.safetensors'"):
            save_checkpoint(tmp_path / "m.safetensors", self.make(), {})
        assert list(tmp_path.iterdir()) == []

    def test_load_checkpoint_refuses_a_truncated_file(self, tmp_path):
        path = tmp_path / "m.safetensors"
        save_checkpoint(path, self.make(), {})
        whole = path.read_bytes()
        for size in (0, 5, 300, len(whole) - 10):
            path.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=r"m.safetensors' cannot be read, truncated or no safetensors"):
                load_checkpoint(path)

    def test_load_checkpoint_refuses_bare_weights(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match="weights without a network"):
            load_checkpoint(tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match="there is no file"):
            load_checkpoint(tmp_path / "nowhere.safetensors")

    def test_save_checkpoint_leaves_out_what_was_detached(self, tmp_path):
        model = self.make()
        foveal.attach(foveal.detach(model), "cbam")
        save_checkpoint(tmp_path / "m.safetensors", model, {})
        other, _ = load_checkpoint(tmp_path / "m.safetensors")
        x = torch.rand(2, 3, 20, 20)
        assert torch.equal(other(x), model.eval()(x))

    def test_load_weights_reads_a_checkpoint(self, tmp_path):
        model = self.make()
        save_checkpoint(tmp_path / "m.safetensors", model, {})
        other = foveal.create_model("small_cnn+se", num_classes=3, reduction=4)
        attach(other, "sk", at="features.3", groups=8)
        foveal.load_weights(other, tmp_path / "m.safetensors")
        x = torch.rand(2, 3, 20, 20)
        assert torch.equal(other.eval()(x), model(x))

    def test_save_checkpoint_refuses_unknown_classes(self, tmp_path):
        class SE(nn.Identity):
            def __init__(self, channels):
                super().__init__()

        model = foveal.attach(foveal.create_model("small_cnn"), SE)
        with pytest.raises(ValueError, match=r"cannot name the attached .*SE: it is no mechanism"):
            save_checkpoint(tmp_path / "m.safetensors", model, {})

    def test_save_checkpoint_refuses_networks_it_cannot_recreate(self, tmp_path):
        with pytest.raises(ValueError, match="this Linear is not one"):
            save_checkpoint(tmp_path / "m.safetensors", nn.Linear(2, 2), {})
        assert list(tmp_path.iterdir()) == []

    def test_load_checkpoint_names_another_network(self, tmp_path):
        from safetensors.torch import load_file, save_file

        path = tmp_path / "m.safetensors"
        save_checkpoint(path, self.make(), {})
        facts = read_checkpoint(path).facts
        facts["attachments"][0]["mechanism"] = "cbam"
        save_file(load_file(path), path, {"foveal": json.dumps(facts)})
        with pytest.raises(ValueError, match="does not hold the network it names"):
            load_checkpoint(path)
