"""Attention in the encoder of a U-Net of segmentation-models-pytorch: attach, train, watch, detach.

python docs/examples/unet.py FOLDER [STEPS]   FOLDER in Pascal VOC form; writes unet.png

The masks are the filled boxes of the cells, which is coarse: they show how it is done, not a benchmark.
"""

import sys
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from cells import SIDES, read_cells
from torch.nn.functional import binary_cross_entropy_with_logits

import foveal


def main(folder: Path, steps: int) -> list[float]:
    """Train on two photographs; return the loss of each step."""
    torch.manual_seed(0)
    images, targets = read_cells(folder, 2)
    masks = torch.zeros(len(images), 1, *SIDES)
    for mask, target in zip(masks, targets, strict=True):
        for left, top, right, bottom in target["boxes"].int().tolist():
            mask[:, top:bottom, left:right] = 1
    model = smp.Unet("resnet18", encoder_weights=None, classes=1).eval()
    names = list(model.state_dict())
    with torch.no_grad():
        before = model(images)
        foveal.attach(model, "cbam")  # end of every residual block of the encoder
        same = torch.equal(model(images), before)
    print(f"attached at {len(foveal.attachments(model)[0].modules)} places; same logits: {same}")

    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(steps):
        loss = binary_cross_entropy_with_logits(model.train()(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at step {steps}")

    with foveal.watch(model.eval()) as seen, torch.no_grad():
        model(images)
    spatial = [record for record in seen if record.kind == "mask"]
    print(f"{len(seen)} records; {spatial[0].path}: {tuple(spatial[0].values.shape)}")
    foveal.draw(seen, images).save("unet.png")

    foveal.detach(model)
    print(f"detached; the names of the weights are the U-Net's: {list(model.state_dict()) == names}")
    return losses


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
