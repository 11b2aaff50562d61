"""Outlines in images: a white line within the object, a black one around it."""

import torch

from foveal.inspection.drawing.outlines import outlined


def test_outlined_draws_lines_along_a_box():
    images = torch.full((2, 1, 10, 10), 100, dtype=torch.uint8)
    drawn = outlined(images, [torch.tensor([[2.0, 2.0, 8.0, 8.0]]), torch.zeros(0, 4)])
    assert drawn[0, 0, 5].tolist() == [100, 0, 255, 100, 100, 100, 100, 255, 0, 100]
    assert torch.equal(drawn[0, 0], drawn[0, 0].T)
    assert torch.equal(drawn[1], images[1])
    assert (images == 100).all()


def test_outlined_draws_lines_along_a_mask_and_at_the_edge_of_the_image():
    images = torch.full((1, 3, 10, 10), 100, dtype=torch.uint8)
    mask = torch.zeros(1, 10, 10, dtype=torch.bool)
    mask[:, :, :6] = True
    drawn = outlined(images, [mask])
    assert drawn[0, 1, 5].tolist() == [255, 100, 100, 100, 100, 255, 0, 100, 100, 100]
    assert drawn[0, 1, 0].tolist() == [255] * 6 + [0] + [100] * 3
