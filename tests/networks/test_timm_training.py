"""Our networks through what timm's training script does, step by step, with timm's own functions.

The script (`train.py` of its repository) is not part of the package: it creates a network by name, its optimizer,
moving average, data and schedule, trains, validates, saves a checkpoint and resumes from it.
"""

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers import write_halves
from timm.data import Mixup, create_dataset, create_loader, resolve_data_config
from timm.models import load_checkpoint, model_parameters, resume_checkpoint
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.utils import AverageMeter, CheckpointSaver, ModelEmaV2, accuracy, dispatch_clip_grad

import foveal.networks.timm_registry  # noqa: F401

ARGUMENTS = {
    "pretrained": False, "num_classes": 2, "drop": 0.1, "drop_path": None, "drop_block": None, "gp": None,
    "bn_momentum": None, "bn_eps": None, "torchscript": False, "initial_checkpoint": "", "in_chans": 3, "img_size": 32,
    "batch_size": 4, "opt": "adamw", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.05, "layer_decay": 0.75,
    "sched": "cosine", "epochs": 1, "warmup_epochs": 0, "clip_grad": 1.0, "clip_mode": "agc", "mixup": 0.2,
    "grad_checkpointing": True, "channels_last": True, "amp": True,
}  # fmt: skip


class Training:
    """Network, optimizer, schedule, moving average and data as the script makes them from its arguments."""

    def __init__(self, name: str, root: Path, **changed: Any) -> None:
        torch.manual_seed(42)
        self.args = args = argparse.Namespace(model=name, **(ARGUMENTS | changed))
        self.model: Any = timm.create_model(
            name, pretrained=args.pretrained, in_chans=args.in_chans, num_classes=args.num_classes,
            drop_rate=args.drop, drop_path_rate=args.drop_path, drop_block_rate=args.drop_block,
            global_pool=args.gp, bn_momentum=args.bn_momentum, bn_eps=args.bn_eps, scriptable=args.torchscript,
            checkpoint_path=args.initial_checkpoint,
        )  # fmt: skip
        with torch.no_grad():
            self.model.get_classifier().weight.mul_(0.5)
        if args.grad_checkpointing:
            self.model.set_grad_checkpointing(enable=True)
        self.config = resolve_data_config(vars(args), model=self.model)
        if args.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = create_optimizer_v2(self.model, **optimizer_kwargs(cfg=args))
        self.ema = ModelEmaV2(self.model, decay=0.5)
        self.train, self.val = (self.loader(root, split) for split in ("train", "val"))
        self.schedule, _ = create_scheduler_v2(
            self.optimizer, **scheduler_kwargs(args), updates_per_epoch=len(self.train)
        )

    def loader(self, root: Path, split: str) -> Any:
        training = split == "train"
        data = create_dataset("", root=str(root), split=split, is_training=training, batch_size=self.args.batch_size)
        keep = {key: self.config[key] for key in ("input_size", "interpolation", "mean", "std")}
        return create_loader(
            data, batch_size=self.args.batch_size, is_training=training, use_prefetcher=False, num_workers=0,
            device=torch.device("cpu"), crop_pct=self.config["crop_pct"], **keep,
        )  # fmt: skip

    def epoch(self, number: int) -> float:
        """Train one epoch; return the mean loss."""
        self.model.train()
        losses, mix = AverageMeter(), Mixup(mixup_alpha=self.args.mixup, num_classes=self.args.num_classes)
        second_order = getattr(self.optimizer, "is_second_order", False)
        for images, labels in self.train:
            images, targets = mix(images, labels)
            if self.args.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.args.amp):
                logits = self.model(images)
                loss = torch.sum(-targets * logits.log_softmax(-1), dim=-1).mean()
            self.optimizer.zero_grad()
            loss.backward(create_graph=second_order)
            agc = "agc" in self.args.clip_mode
            weights = model_parameters(self.model, exclude_head=agc)
            dispatch_clip_grad(weights, value=self.args.clip_grad, mode=self.args.clip_mode)
            self.optimizer.step()
            self.ema.update(self.model)
            losses.update(loss.item(), len(images))
        self.schedule.step(number + 1)
        return losses.avg

    @torch.no_grad()
    def validate(self, model: Any) -> tuple[float, torch.Tensor]:
        """Return the accuracy, and all logits."""
        model.eval()
        right, logits = AverageMeter(), []
        for images, labels in self.val:
            logits.append(model(images))
            right.update(accuracy(logits[-1], labels, topk=(1,))[0].item(), len(images))
        return right.avg, torch.cat(logits)


def check_training(name: str, root: Path, folder: Path, **changed: Any) -> None:
    run = Training(name, root, **changed)
    saver = CheckpointSaver(
        model=run.model, optimizer=run.optimizer, args=run.args, model_ema=run.ema, checkpoint_dir=str(folder),
        recovery_dir=str(folder), max_history=1,
    )  # fmt: skip
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    losses = [run.epoch(number) for number in range(run.args.epochs)]
    assert all(loss < 10 for loss in losses)  # false for one that is not finite
    assert not [key for key, value in run.model.named_parameters() if torch.equal(value, before[key])]
    _, logits = run.validate(run.model)
    saver.save_checkpoint(run.args.epochs - 1, metric=run.validate(run.ema.module)[0])

    resumed = Training(name, root, **changed)
    assert resume_checkpoint(resumed.model, str(folder / "last.pth.tar"), resumed.optimizer) == run.args.epochs
    load_checkpoint(resumed.ema.module, str(folder / "last.pth.tar"), use_ema=True)
    assert torch.equal(run.validate(resumed.model)[1], logits)
    assert torch.equal(run.validate(resumed.ema.module)[1], run.validate(run.ema.module)[1])
    started = Training(name, root, **changed, initial_checkpoint=str(folder / "last.pth.tar"))
    ema = run.ema.module.state_dict()  # which timm prefers
    for key, value in started.model.state_dict().items():
        halved = 0.5 if key == f"{started.model.get_classifier(name_only=True)}.weight" else 1.0
        assert torch.equal(value, ema[key] * halved), key


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split in ("train", "val"):
        write_halves(root / split, 4)
    return root


@pytest.mark.parametrize("name", ["foveal_seresnet20", "foveal_two_stn_cnn"])
def test_timms_training_takes_our_networks(name, photos, tmp_path):
    alone = {"grad_checkpointing": False, "layer_decay": None} if "stn" in name else {}
    check_training(name, photos, tmp_path, **alone)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", ["foveal_sknet26", "foveal_cbam_resnet18", "foveal_bam_resnet18", "foveal_attention92_cifar"]
)
def test_timms_training_takes_networks_with_every_kind_of_place(name, photos, tmp_path):
    check_training(name, photos, tmp_path, img_size=64)
