"""Predictions of a trained network for files, folders, pictures, pixels, loaders and data sets."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import foveal
from foveal.core.answers import Answers
from foveal.data.image_files import read
from foveal.training.config import RunConfig
from foveal.training.predict_file import names_data, predict_to_file
from foveal.training.predictions import prediction_head, prediction_rows
from foveal.training.run_facts import InferenceSettings, check_run_facts

LEVELS = {"black": 30, "white": 220}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run on two classes of brightness, which it learns without an error, in bfloat16."""
    root = tmp_path_factory.mktemp("brightness")
    stream = np.random.default_rng(0)
    for name, level in LEVELS.items():
        (root / "photos" / name).mkdir(parents=True)
        for index in range(20):
            pixels = stream.normal(level, 12, (20, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{index:02d}.png")
    config = RunConfig(
        model="small_cnn+se", data=f"folder:{root}/photos", image_size=16, epochs=6, batch_size=8, lr=3e-3, amp=True
    )
    assert foveal.train(config, root / "run").accuracy == 1.0
    return root


@pytest.fixture(scope="module")
def loaded(root):
    return foveal.load_model(root / "run")


def files_of(root):
    return [root / "photos" / name / "00.png" for name in LEVELS]


def test_predict_of_files_folders_pictures_and_pixels_agree(root, loaded):
    files = files_of(root)
    found = loaded.predict(files)
    assert found.predicted == ["black", "white"] == [pairs[0][0] for pairs in found.top(2)]
    assert found.names == [str(path) for path in files]
    assert found.probabilities.shape == (2, 2)
    assert found.probabilities.sum(1) == pytest.approx([1, 1])
    pictures = loaded.predict([Image.open(path) for path in files])
    assert torch.equal(pictures.answers.logits, found.answers.logits)
    transform = loaded.preprocessing.transform()
    pixels = torch.stack([transform(read(path)) for path in files])
    assert torch.equal(loaded.predict(pixels).answers.logits, found.answers.logits)
    assert torch.equal(loaded.predict(pixels.numpy()).answers.logits, found.answers.logits)
    folder = loaded.predict(root / "photos" / "white")
    assert len(folder) == 20
    assert set(folder.predicted) == {"white"}
    assert folder.names == sorted(folder.names)
    assert loaded.predict(str(files[1])).predicted == ["white"]


def test_predict_of_a_loader_takes_normalized_floats(root, loaded):
    transform = loaded.preprocessing.transform()
    pixels = torch.stack([transform(read(path)) for path in files_of(root)])
    floats = loaded.preprocessing.normalize(pixels)
    expected = loaded.predict(pixels).answers.logits
    assert torch.equal(loaded.predict(floats).answers.logits, expected)
    loader = DataLoader(TensorDataset(floats, torch.tensor([0, 1])), 1)
    found = loaded.predict(loader)
    assert (found.names, found.labels) == (["0", "1"], None)
    torch.testing.assert_close(found.answers.logits, expected, atol=0.02, rtol=0.02)  # bfloat16, another batch


def test_predict_writes_the_same_file_as_train_did_for_the_test_part(root, loaded, tmp_path):
    done = predict_to_file(loaded, [f"folder:{root}/photos"], tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_bytes() == (root / "run/predictions.csv").read_bytes()
    assert (done.images, done.right) == (6, 6)
    part = loaded.load_data(root / "photos").test
    assert torch.equal(loaded.predict(part).labels, part.labels)


def test_predict_with_workers_gives_the_same(root, loaded):
    alone, together = (loaded.predict(root / "photos", workers=workers) for workers in (0, 2))
    assert alone.names == together.names
    assert torch.equal(alone.answers.logits, together.answers.logits)


def test_predict_leaves_the_random_stream_as_it_is(root, loaded):
    before = torch.get_rng_state()
    loaded.predict(root / "photos")
    assert torch.equal(torch.get_rng_state(), before)


def test_predict_leaves_out_what_cannot_be_read(root, loaded, tmp_path):
    good = files_of(root)[0]
    whole = good.read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.txt").write_text("")
    (tmp_path / ".hidden.png").write_bytes(whole)
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "in" / "side" / "a.png").write_bytes(whole)
    found = loaded.predict([tmp_path, tmp_path / "none.jpg"])
    assert found.names == [str(tmp_path / "in/side/a.png")]
    half, text, none = (str(tmp_path / name) for name in ("half.png", "text.txt", "none.jpg"))
    assert found.skipped.keys() == {half, text, none}
    assert found.skipped[half].startswith("cannot be read: ")
    assert found.skipped[text] == "not an image by its name (.txt)"
    assert found.skipped[none] == "no such file"
    with pytest.raises(ValueError, match=r"no image could be read; .*none\.jpg': no such file"):
        loaded.predict(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match=r"no image could be read; .*half\.png': cannot be read"):
        loaded.predict(tmp_path / "half.png")


def test_predict_refuses_what_it_does_not_understand(root, loaded):
    with pytest.raises(ValueError, match=r"images of 20 x 24 pixels, and the network takes 16 x 16; hand over files"):
        loaded.predict(torch.zeros(1, 3, 20, 24, dtype=torch.uint8))
    with pytest.raises(ValueError, match="images: an empty list"):
        loaded.predict([])
    with pytest.raises(TypeError, match="paths, images of Pillow and other values in one list"):
        loaded.predict([str(files_of(root)[0]), Image.new("L", (9, 9))])
    with pytest.raises(ValueError, match="image 1: pixels from 0 to 0, not 8 or 16 bits"):
        loaded.predict([Image.new("L", (9, 9)), Image.new("F", (9, 9))])
    with pytest.raises(ValueError, match="image 0: 16-bit values, and no value range is known"):
        loaded.predict(Image.fromarray(np.zeros((9, 9), dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"\(B, C, H, W\) is needed"):
        loaded.predict(torch.zeros(3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="images of type int64; uint8 pixels, or normalized floats, are needed"):
        loaded.predict(torch.zeros(1, 3, 16, 16, dtype=torch.int64))
    with pytest.raises(ValueError, match="images of 9 x 9 pixels, and the network takes 16 x 16"):
        loaded.predict(DataLoader(TensorDataset(torch.zeros(2, 3, 9, 9, dtype=torch.uint8)), 1))
    with pytest.raises(TypeError, match="images: int given; batches are needed"):
        loaded.predict(5)


def test_predict_of_a_network_by_name_gives_numbers_of_classes(root):
    opened = foveal.load_model("small_cnn")
    found = opened.predict(files_of(root))
    assert found.classes == tuple(map(str, range(found.answers.logits.shape[1])))


def test_prediction_rows_hold_the_most_probable_classes(tmp_path, root, loaded):
    answers = Answers(torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0]]), 3)
    assert prediction_head(False, 2) == ["image", "predicted", "probability", "predicted_2", "probability_2"]
    rows = list(prediction_rows(["x", "y"], None, answers, "abc", 2))
    total = np.exp([0, 2, 1]).sum()
    assert rows[0] == ["x", "b", f"{np.exp(2) / total:.6f}", "c", f"{np.exp(1) / total:.6f}"]
    assert rows[1][1] == "a"  # of equal logits the first
    with pytest.raises(ValueError, match="top=3: a number from 1 to 2, the number of classes, is needed"):
        predict_to_file(loaded, [str(root / "photos")], tmp_path / "p.csv", top=3)
    predict_to_file(loaded, [str(root / "photos/black")], tmp_path / "p.csv", top=2)
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["predicted"], row["predicted_2"]) for row in rows} == {("black", "white")}
    assert all(float(row["probability"]) + float(row["probability_2"]) == pytest.approx(1, abs=2e-6) for row in rows)


def test_probabilities_of_one_output_are_those_of_the_sigmoid():
    z = torch.tensor([[1.5], [-2.0]])
    answers = Answers(torch.cat([-z, z], 1), 1)
    assert torch.equal(answers.probabilities()[:, 1], z[:, 0].sigmoid())
    assert torch.equal(answers.top(1)[1][:, 0], torch.tensor([1.5, 2.0]).sigmoid())


def test_names_data_tells_data_sets_from_files(tmp_path):
    assert names_data("digits/rts")
    assert names_data(f"folder:{tmp_path}")
    assert names_data("mine.npz")
    assert not names_data(str(tmp_path))
    assert not names_data("nowhere/x.JPG")


@pytest.mark.parametrize(
    "stated",
    [{"batch_size": 0}, {"batch_size": True}, {"amp": 1}, {"channels_last": "no"}, {"amp_dtype": "float8"}, []],
)
def test_inference_settings_of_a_checkpoint_are_checked(stated):
    with pytest.raises(ValueError, match="states "):
        check_run_facts({"inference": stated})
    assert InferenceSettings.from_facts({}) == InferenceSettings(False, False, 64, "bfloat16")
