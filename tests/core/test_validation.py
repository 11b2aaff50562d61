"""Wrong models and loaders: one-line errors, the same in every function."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import foveal

IMAGES, LABELS = torch.rand(8, 1, 16, 16), torch.arange(8) % 4


def model() -> nn.Module:
    return foveal.create_model("small_cnn+se", num_classes=4, in_chans=1).eval()


def failing():
    """Loader that fails in the middle and can be read again."""

    class Failing:
        def __iter__(self):
            yield IMAGES, LABELS
            raise OSError("disk gone")

    return Failing()


@pytest.mark.parametrize(
    "call",
    [
        lambda: foveal.attach("resnet18", "se"),
        lambda: foveal.watch("resnet18"),
        lambda: foveal.replace("resnet18", {}),
        lambda: foveal.audit("resnet18", [IMAGES]),
        lambda: foveal.score("resnet18", [(IMAGES, LABELS)]),
        lambda: foveal.prune_constant("resnet18", [IMAGES]),
        lambda: foveal.load_weights("resnet18", {}),
        lambda: foveal.class_activation("resnet18", IMAGES),
    ],
)
def test_check_model_refuses_a_name(call):
    with pytest.raises(TypeError, match=r"^model: 'resnet18'; a torch.nn.Module is needed; foveal.create_model makes"):
        call()


def test_audit_takes_bare_tensors_and_reads_the_loader_once():
    assert foveal.audit(model(), [IMAGES, IMAGES[:3]]).images == 11
    assert foveal.audit(model(), (each for each in (IMAGES, IMAGES[:1]))).images == 9
    assert foveal.audit(model(), DataLoader(TensorDataset(IMAGES), batch_size=3)).images == 8


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (IMAGES, TypeError, "loader: Tensor given; batches are needed"),
        (3, TypeError, "loader: int given"),
        ({"image": IMAGES}, TypeError, "loader: dict given"),
        ([], ValueError, "loader: "),
        (["abc"], TypeError, "loader: a batch is a"),
        (failing(), ValueError, "loader: batch 1 could not be read: OSError: disk gone"),
    ],
)
def test_audit_and_score_refuse_bad_loaders(loader, error, message):
    for ask in (foveal.audit, foveal.score):
        with pytest.raises(error, match=message):
            ask(model(), loader)


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        ([IMAGES], TypeError, "loader: a batch is a Tensor; images and labels are needed"),
        ([(IMAGES, [0] * 8)], TypeError, "loader: a batch is a tuple of Tensor, list"),
        ([(IMAGES, LABELS[:3])], ValueError, "loader: a batch of 8 images, 3 labels"),
        ([(IMAGES, LABELS, torch.zeros(7, 4))], ValueError, "8 images, 8 labels, 7 boxes"),
        (((IMAGES, LABELS) for _ in range(2)), ValueError, "loader: generator given, which can be read once"),
        (iter([(IMAGES, LABELS)]), ValueError, "loader: list_iterator given"),
        ([(IMAGES[:1], LABELS[:1])], ValueError, "loader: it gave 1 image; an interval over images needs two"),
    ],
)
def test_score_refuses_bad_loaders(loader, error, message):
    with pytest.raises(error, match=message):
        foveal.score(model(), loader)


def test_score_names_a_bad_choose_loader():
    with pytest.raises(ValueError, match="choose: generator given"):
        foveal.score(model(), [(IMAGES, LABELS)], (each for each in [(IMAGES, LABELS)]))


def test_score_refuses_a_loader_whose_order_changes():
    data = TensorDataset(torch.rand(64, 1, 16, 16), torch.arange(64) % 4)
    with pytest.raises(ValueError, match="loader: read again it gave other labels; it must keep its order"):
        foveal.score(model(), DataLoader(data, batch_size=16, shuffle=True), curved=0)
