"""Attention in the backbone of a Faster R-CNN: attach, train, watch, detach.

python docs/examples/faster_rcnn.py FOLDER [STEPS]   FOLDER in Pascal VOC form; writes faster_rcnn.png
"""

import sys
from pathlib import Path

import torch
from cells import CLASSES, SIDES, read_cells
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

import foveal


def main(folder: Path, steps: int) -> list[float]:
    """Train on two photographs; return the loss of each step."""
    torch.manual_seed(0)
    images, targets = read_cells(folder, 2)
    model = fasterrcnn_mobilenet_v3_large_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=1 + len(CLASSES),
        min_size=SIDES[0],  # no resizing, no padding: a mask over the map is a mask over the image
        max_size=SIDES[1],
        box_score_thresh=0.0,
    ).eval()
    names = list(model.state_dict())
    with torch.no_grad():
        before = model(list(images))
    foveal.attach(model, "cbam")  # after every depthwise convolution of the backbone
    with torch.no_grad():
        same = all(
            torch.equal(one["boxes"], other["boxes"]) for one, other in zip(model(list(images)), before, strict=True)
        )
    print(f"attached at {len(foveal.attachments(model)[0].modules)} places; same detections: {same}")

    optimizer = torch.optim.AdamW(model.parameters(), 5e-4)
    losses = []
    for _ in range(steps):
        loss = sum(model.train()(list(images), targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at step {steps}")

    with foveal.watch(model.eval()) as seen, torch.no_grad():
        model(list(images))
    masks = [record for record in seen if record.kind == "mask"]
    print(f"{len(seen)} records; {masks[0].path}: {tuple(masks[0].values.shape)}")
    foveal.draw(seen, images).save("faster_rcnn.png")

    foveal.detach(model)
    print(f"detached; the names of the weights are the detector's: {list(model.state_dict()) == names}")
    return losses


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
