"""Fine-tuning as others do it by default, on the same network: timm's training script, and fastai's learner.

`python -m benchmarks.finetuning_peers '{"folder": ..., "weights": ..., "passes": ..., "seed": ...}'` runs fastai and
prints a line of JSON, for a Python that has fastai.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from resnetlab.models.modelfile import load
from resnetlab.models.starting import take_over
from resnetlab.networks.resnet import ResNet, build

NETWORK = "resnet18-narrow4"
SIDE = 64
BATCH = 64
CROPPED = 0.875  # the share of the shorter side that tests see, in timm and in our recipes


def network_of(weights: Path | None, classes: tuple[str, ...], seed: int) -> ResNet:
    """The network with a new last layer, from weights or random."""
    torch.manual_seed(seed)
    network = build(NETWORK, num_classes=len(classes))
    if weights is not None:
        take_over(load(weights), network, classes, weights)
    return network


def timm(folder: Path, weights: Path | None, passes: int, seed: int) -> dict[str, float]:
    """timm's `train.py` with its defaults, except for the size of batches.

    SGD with Nesterov's momentum 0.9 and weight decay 2e-5 at a rate of 0.1 for 256 images, half a cosine after 5 of
    300 epochs of rising rate, crops of 8 % of the image and more, flips, colour jitter 0.4, label smoothing 0.1.
    """
    from timm.data.dataset import ImageDataset
    from timm.data.loader import create_loader
    from timm.loss.cross_entropy import LabelSmoothingCrossEntropy
    from timm.optim._optim_factory import create_optimizer_v2
    from timm.scheduler.scheduler_factory import create_scheduler_v2
    from timm.utils.random import random_seed

    random_seed(seed, 0)  # type: ignore[no-untyped-call]
    about: dict[str, Any] = {"input_size": (3, SIDE, SIDE), "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    about |= {"use_prefetcher": False, "num_workers": 0, "persistent_workers": False, "device": torch.device("cpu")}
    train, test = (ImageDataset(str(folder / part)) for part in ("train", "test"))  # type: ignore[no-untyped-call]
    batch = min(BATCH, len(train))
    learning = create_loader(
        train, batch_size=batch, is_training=True, color_jitter=0.4, interpolation="random", **about
    )
    testing = create_loader(test, batch_size=BATCH, interpolation="bilinear", crop_pct=CROPPED, **about)
    network = network_of(weights, tuple(train.reader.class_to_idx), seed)
    begun = time.process_time()
    optimizer = create_optimizer_v2(network, "sgd", 0.1 * batch / 256, 2e-5, 0.9)
    scheduler, epochs = create_scheduler_v2(
        optimizer, "cosine", passes, warmup_epochs=round(passes * 5 / 300), warmup_lr=1e-5, min_lr=0.0
    )
    criterion, steps = LabelSmoothingCrossEntropy(0.1), 0  # type: ignore[no-untyped-call]
    scheduler.step(0)
    for epoch in range(epochs):
        network.train()
        for images, labels in learning:
            loss = criterion(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        scheduler.step(epoch + 1)
    network.eval()
    with torch.inference_mode():
        wrong = sum(int((network(images).argmax(1) != labels).sum()) for images, labels in testing)
    return {"error": 100 * wrong / len(test), "seconds": time.process_time() - begun, "steps": steps}


def fastai(folder: Path, weights: Path | None, passes: int, seed: int) -> dict[str, Any]:
    """fastai's `vision_learner` and, from weights, `fine_tune` with their defaults; otherwise `fit_one_cycle`.

    Its own head, Adam, discriminative one-cycle rates after a frozen pass; of its book `RandomResizedCrop` with
    `min_scale=0.5` and `aug_transforms`.
    """
    import fastai as library
    from fastai.vision import all as fast
    from fastai.vision.learner import _resnet_split, model_meta

    fast.set_seed(seed, reproducible=True)
    classes = tuple(sorted(each.name for each in (folder / "train").iterdir()))
    loaders = fast.ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="test",
        bs=BATCH,
        item_tfms=fast.RandomResizedCrop(SIDE, min_scale=0.5),
        batch_tfms=[*fast.aug_transforms(), fast.Normalize.from_stats(*fast.imagenet_stats)],
        num_workers=0,
        seed=seed,
        device=torch.device("cpu"),
    )

    class untested(fast.Callback):  # noqa: N801 -- as in fastai
        """Tests after the last pass alone."""

        def before_validate(self) -> None:
            raise fast.CancelValidException

    def arch(pretrained: bool) -> ResNet:
        return network_of(weights if pretrained else None, classes, seed)

    model_meta[arch] = {"cut": _body, "split": _resnet_split, "stats": fast.imagenet_stats}
    learner = fast.vision_learner(loaders, arch, pretrained=weights is not None, metrics=fast.error_rate)
    begun = time.process_time()
    with learner.no_bar(), learner.no_logging():
        with learner.added_cbs(untested()):
            if weights is None:
                learner.fit_one_cycle(passes)
            else:
                learner.fine_tune(max(1, passes - 1))  # and one pass with the body frozen
        error = 100 * float(learner.validate()[1])
    return {
        "error": error,
        "seconds": time.process_time() - begun,
        "steps": passes * len(loaders.train),
        "version": f"{library.__version__}, torch {torch.__version__}",
    }


def _body(network: ResNet) -> nn.Sequential:
    """The layers that fastai expects of a ResNet, in its order."""
    layers = (network.conv1, network.bn1, nn.ReLU(), network.maxpool, *network.stages())
    return nn.Sequential(*layers)


def main() -> None:
    """Run fastai once."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    weights = asked["weights"] and Path(asked["weights"])
    print(json.dumps(fastai(Path(asked["folder"]), weights, asked["passes"], asked["seed"])))


if __name__ == "__main__":
    main()
