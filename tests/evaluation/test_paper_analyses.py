"""The papers' analyses, on networks with known attention."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import foveal
from foveal.core.record import Facts, Tap
from foveal.evaluation.central_objects import enlarged


class RecordedWeights(nn.Module):
    """Record what `weigh` returns for the images."""

    def __init__(self, weigh, **facts):
        super().__init__()
        self.weigh = weigh
        self.tap = Tap(Facts(mechanism="test", domain="channel", value_range=(0, 1), **facts))

    def forward(self, x):
        self.tap(self.weigh(x))
        return x.mean((2, 3))


def record_network(weigh, **facts):
    return nn.Sequential(OrderedDict(place=RecordedWeights(weigh, **facts)))


def batches(*parts, size=2):
    return list(zip(*(part.split(size) for part in parts), strict=True))


def brightness():
    """Two gates: the brightness of the image, and a constant 1."""
    return record_network(lambda x: torch.stack([x.mean((1, 2, 3)), torch.ones(len(x))], 1), kind="gate", axes="B C")


def test_excitation_by_class_has_means_and_deviations():
    levels = torch.tensor([0.2, 0.8, 0.4, 0.8])
    loader = batches(levels.view(4, 1, 1, 1).expand(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]))
    found = foveal.excitation_by_class(brightness(), loader, ["dark", "bright", "none"])
    assert found.counts.tolist() == [2, 2, 0]
    torch.testing.assert_close(found.means["place"][:2], torch.tensor([[0.3, 1.0], [0.8, 1.0]]))
    assert found.means["place"][2].isnan().all()
    torch.testing.assert_close(found.deviations["place"][:2], torch.tensor([[0.1, 0.0], [0.0, 0.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.overall["place"], torch.tensor([0.55, 1.0]))
    assert found.between()["place"] == pytest.approx((0.25 + 0) / 2)
    lines = found.draw(["bright"]).figure.axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == [pytest.approx([0.8, 1]), pytest.approx([0.55, 1])]
    assert len(found.draw().figure.axes[0].collections) == 2  # a band each
    with pytest.raises(ValueError, match="classes: 'none' has no image; classes with images: dark, bright"):
        found.draw(["none"])


def test_enlarged_is_crop_and_resize():
    images = torch.rand(2, 3, 32, 32)
    cropped = nn.functional.interpolate(images[:, :, 8:24, 8:24], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(enlarged(images, 2.0)[:, :, 1:-1, 1:-1], cropped[:, :, 1:-1, 1:-1])
    assert enlarged(images, 1.0) is images


@pytest.mark.parametrize("as_loader", [False, True])
def test_selection_by_size_follows_the_size_of_the_object(as_loader):
    """The share of the second branch is the area of the bright square: a quarter of the image, then nearly all."""
    images = torch.zeros(4, 1, 64, 64)
    images[:, :, 16:48, 16:48] = 1

    def share(x):
        bright = x.mean((1, 2, 3))[:, None]
        return torch.stack([1 - bright, bright], 1)

    model = record_network(share, kind="selection", axes="B K C")
    given = batches(images, torch.zeros(4), size=3) if as_loader else images
    found = foveal.selection_by_size(model, given, scales=(1.0, 2.0))
    assert found.shares["place"][0].tolist() == pytest.approx([0.75, 0.25])
    assert found.differences()["place"].tolist() == pytest.approx([-0.5, 1.0], abs=0.05)
    *_, difference = found.draw().figure.axes
    assert [line.get_ydata().tolist() for line in difference.lines[:2]] == [
        pytest.approx([each]) for each in found.differences()["place"].tolist()
    ]


SQUARES = torch.tensor([[0, 0], [4, 2], [6, 6], [2, 4]])  # upper left corners


def squares(sides=(2, 2, 2, 2)):
    images = torch.zeros(4, 1, 8, 8)
    boxes = torch.zeros(4, 4)
    for image, box, side, (x, y) in zip(images, boxes, sides, SQUARES.tolist(), strict=True):
        image[0, y : y + side, x : x + side] = 1
        box[:] = torch.tensor([x, y, x + side, y + side])
    return images, torch.zeros(4).long(), boxes


def centring(x):
    """Zoom twice onto the centre of mass."""
    along = (2 * torch.arange(8) + 1) / 8 - 1
    mass = x.sum((1, 2, 3))
    shift = torch.stack([(x.sum((1, 2)) * along).sum(1), (x.sum((1, 3)) * along).sum(1)], 1) / mass[:, None]
    return torch.cat([0.5 * torch.eye(2).expand(len(x), 2, 2), shift[..., None]], 2)


@pytest.mark.parametrize("family", ["B 2 3", "B 3 3"])
def test_pose_before_and_after_of_a_centring_transformer_loses_the_variation(family):
    def weigh(x):
        theta = centring(x)
        last = 2 * torch.tensor([[[0.0, 0.0, 1.0]]]).expand(len(x), 1, 3)
        return theta if family == "B 2 3" else torch.cat([2 * theta, last], 1)  # a homography, to any factor

    found = foveal.pose_before_and_after(record_network(weigh, kind="transform", axes=family), batches(*squares()))
    centres = torch.tensor([[1, 1], [5, 3], [7, 7], [3, 5]]) / 8
    torch.testing.assert_close(found.before, torch.cat([centres, torch.full((4, 1), 0.25)], 1))
    torch.testing.assert_close(found.after["place"], torch.tensor([[0.5, 0.5, 0.5]]).expand(4, 3))
    before, after = found.deviations()
    torch.testing.assert_close(before, torch.tensor([5**0.5 / 8, 5**0.5 / 8, 0.0]), atol=1e-6, rtol=0)
    assert after["place"].abs().max() < 1e-5
    assert len(found.draw().figure.axes) == 2


def test_pose_before_and_after_measures_sizes_in_octaves():
    model = record_network(centring, kind="transform", axes="B 2 3")
    before, after = foveal.pose_before_and_after(model, batches(*squares((1, 2, 1, 2)))).deviations()
    assert before[2].item() == pytest.approx(0.5)
    assert after["place"][2].item() == pytest.approx(0.5)


def test_paper_analyses_run_on_networks_and_restore_them():
    for name, analyse in (
        ("small_cnn+se", lambda model, batch: foveal.excitation_by_class(model, [batch], ["zero"])),
        ("small_cnn+sk:groups=8", lambda model, batch: foveal.selection_by_size(model, batch[0])),
        ("small_cnn+stn", lambda model, batch: foveal.pose_before_and_after(model, [batch])),
    ):
        model = foveal.create_model(name, num_classes=10, in_chans=1).train()
        batch = torch.rand(4, 1, 32, 32), torch.zeros(4).long(), torch.tensor([[4.0, 4.0, 20.0, 20.0]]).expand(4, 4)
        assert analyse(model, batch).draw().png().startswith(b"\x89PNG")
        assert model.training


LINE = record_network(lambda x: torch.zeros(len(x), 2, 3), kind="transform", axes="B 2 3")


@pytest.mark.parametrize(
    ("analyse", "message"),
    [
        (lambda: foveal.excitation_by_class(nn.Flatten(), batches(*squares()), ["a"]), "no attention was found"),
        (
            lambda: foveal.excitation_by_class(LINE, batches(*squares()), ["a"]),
            "Sequential has no gate of axes 'B C'",
        ),
        (lambda: foveal.excitation_by_class(brightness(), [], ["a"]), "contains no images"),
        (lambda: foveal.excitation_by_class(brightness(), batches(*squares()), []), "classes: the list is empty"),
        (lambda: foveal.selection_by_size(brightness(), squares()[0]), "no selection of axes 'B K C'"),
        (lambda: foveal.selection_by_size(brightness(), squares()[0], (0.5,)), r"scales=\(0.5,\): must be 1"),
        (lambda: foveal.pose_before_and_after(brightness(), batches(*squares())), "no transform of axes 'B 2 3' or"),
        (lambda: foveal.pose_before_and_after(LINE, batches(*squares()[:2])), "images, labels and boxes"),
        (
            lambda: foveal.pose_before_and_after(LINE, batches(*squares())),
            "'place': a transform has no inverse: it shows a line or a point",
        ),
    ],
)
def test_paper_analyses_refuse_bad_input(analyse, message):
    with pytest.raises(ValueError, match=message):
        analyse()
