"""Tokens on a map, and rollouts, against products worked out by hand."""

import pytest
import torch

from foveal.core.layout import Layout
from foveal.core.record import Record
from foveal.inspection.rollout import layout, rollout


def layer(values: torch.Tensor, axes: str = "B G Q K", path: str = "blocks.0.attn") -> Record:
    facts = {"mechanism": "test", "kind": "affinity", "domain": "spatial", "value_range": (0, 1)}
    return Record(axes=axes, values=values, path=path, **facts)


@pytest.mark.parametrize(
    ("count", "image", "expected"),
    [
        (196, (224, 224), (0, 14, 14)),
        (197, (224, 224), (1, 14, 14)),  # a class token
        (198, (224, 224), (2, 14, 14)),  # and one for distillation
        (201, (224, 224), (5, 14, 14)),  # and four registers
        (193, (256, 192), (1, 16, 12)),
        (23, (224, 224), None),
        (1, (224, 224), None),
        (196, (224, 192), None),
    ],
)
def test_layout_has_the_proportions_of_the_image(count, image, expected):
    assert layout(count, *image) == (Layout(*expected) if expected else None)


def test_layout_middle_token_is_the_centre():
    tokens = layout(10, 3, 3)
    assert (tokens.centre, tokens.middle) == ((1, 1), 5)
    assert tokens.map(torch.arange(10.0)).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_rollout_of_two_layers_by_hand():
    """First both tokens read the first one, on the mean of two heads; then both read the second one."""
    heads = torch.tensor([[[1.0, 0.0], [1.5, 0.5]], [[1.0, 0.0], [0.5, -0.5]]])[None]
    second = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None]
    found = rollout([layer(heads), layer(second)])
    assert found.tolist() == [[[0.75, 0.25], [0.5, 0.5]]]  # [[1/2, 1/2], [0, 1]] @ [[1, 0], [1/2, 1/2]]


def test_rollout_rows_sum_to_one():
    half = 0.5 * torch.eye(3)[None, None]  # as after dropout
    assert rollout([layer(half)]).tolist() == [torch.eye(3).tolist()]
    layers = [layer(torch.rand(2, 3, 9, 9)) for _ in range(4)]
    torch.testing.assert_close(rollout(layers).sum(-1), torch.ones(2, 9))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "one layer at least"),
        ([layer(torch.rand(1, 1, 4, 2))], r"'blocks.0.attn': \(1, 1, 4, 2\)"),
        ([layer(torch.rand(1, 1, 1, 4, 4), "B N G Q K")], "axes 'B N G Q K' is not a layer"),
        ([layer(torch.rand(1, 1, 4, 4)), layer(torch.rand(1, 1, 5, 5))], "5 tokens, after 4 of 'blocks.0.attn'"),
    ],
)
def test_rollout_refuses_bad_records(records, message):
    with pytest.raises(ValueError, match=message):
        rollout(records)
