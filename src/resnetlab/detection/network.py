"""Faster R-CNN as the paper has it (Appendix A): features shared through conv4, RoI pooling, conv5 as the head."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.data.boxes import Detections
from resnetlab.detection.images import Images, Size
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.proposals import STRIDE, ProposalNetwork
from resnetlab.detection.regions import Regions, pooled
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.inference import fused
from resnetlab.networks.resnet import BasicBlock, Bottleneck, ResNet, ZeroPad
from resnetlab.networks.vgg import POOLED, VGG

LOSSES = ("objectness loss", "proposal loss", "class loss", "box loss")


class Body(nn.Module):
    """The network that detection is built on, in two parts: `shared` once per image, `head` once per region."""

    channels: int
    """Of the shared map."""
    features: int
    """Numbers per region after the head."""
    pool_size: int

    def shared(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """The map of stride 16 that proposals and regions share."""
        raise NotImplementedError

    def head(self, x: Float[Tensor, "r d p p"]) -> Float[Tensor, "r f"]:
        """The features of pooled regions."""
        raise NotImplementedError


class ResidualBody(Body):
    """Shared through conv4_x; conv5_x and global average pooling per region."""

    def __init__(self, row: Architecture, pool_size: int) -> None:
        super().__init__()
        self.network = ResNet(row)
        self.features = self.network.fc.in_features
        self.network.fc = nn.Identity()  # type: ignore[assignment]
        *_, before, last = self.network.stages()
        self.channels = _channels(before)
        self.pool_size = pool_size
        if pool_size == POOLED:  # the stride would make 4 of 7
            for module in last.modules():
                if isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
                elif isinstance(module, ZeroPad):
                    module.stride = 1

    def shared(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """conv1 to conv4_x."""
        x = self.network.stem(x)
        for stage in self.network.stages()[:-1]:
            x = stage(x)
        return x

    def head(self, x: Float[Tensor, "r d p p"]) -> Float[Tensor, "r f"]:
        """conv5_x and global average pooling."""
        features: Tensor = self.network.avgpool(self.network.stages()[-1](x)).flatten(1)
        return features


class VGGBody(Body):
    """The 13 convolutions are shared; the two hidden layers are per region."""

    pool_size = POOLED

    def __init__(self, row: Architecture) -> None:
        super().__init__()
        self.network = VGG(row)
        self.channels, self.features = row.widths[-1], self.network.hidden

    def shared(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """conv1_1 to conv5_3. Images of less than 16 pixels on a side are padded, for the map rounds down."""
        height, width = x.shape[2:]
        if min(height, width) < STRIDE:
            x = F.pad(x, (0, max(0, STRIDE - width), 0, max(0, STRIDE - height)))
        features: Tensor = self.network(x)
        return features

    def head(self, x: Float[Tensor, "r d p p"]) -> Float[Tensor, "r f"]:
        """fc6 and fc7."""
        features: Tensor = self.network.classifier(x.flatten(1))
        return features


class FasterRCNN(nn.Module):
    """In training mode losses of images with boxes, in evaluation mode their detections.

    Raises:
        ResnetlabError: a network for CIFAR, whose stride is not 16.
    """

    def __init__(self, row: Architecture, options: DetectorOptions) -> None:
        super().__init__()
        if row.stem == "cifar":
            raise ResnetlabError(f"{row.name} is for small images; for detection take e.g. resnet18 with narrow=4")
        self.architecture = row
        self.options = options
        self.body: Body = VGGBody(row) if row.stem == "vgg" else ResidualBody(row, options.pool_size)
        self.proposals = ProposalNetwork(self.body.channels, options)
        self.regions = Regions(self.body.features, row.num_classes, options)

    @property
    def trunk(self) -> nn.Module:
        """The network whose stages can be frozen."""
        return self.body.get_submodule("network")

    def forward(self, images: Images) -> Float[Tensor, "4"] | list[Detections]:
        """Training: the mean losses named in LOSSES. Else what is found, in pixels of the original images."""
        from resnetlab.detection.detect import detect  # which imports this module

        if not self.training:
            return detect([self], images)
        devices = [images.pixels.device] if images.pixels.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(images.key)
            return torch.stack(self.losses(images))

    def fuse(self) -> None:
        """Fuse convolution, batch normalisation and ReLU for tests on a processor; it cannot be trained any more."""
        self.eval()
        if isinstance(self.body, ResidualBody):
            self.body.network = fused(self.body.network)

    def losses(self, images: Images) -> tuple[Tensor, ...]:
        """The losses of images with boxes, by a random sample of anchors and of proposals."""
        assert images.boxes is not None, "training needs boxes"  # noqa: S101 -- a mistake in the program
        x = self.body.shared(images.pixels)
        logits, deltas = self.proposals(x)
        anchors = self.proposals.grid(x)
        found = [
            self.proposals.best(logits[k], deltas[k], anchors, size).corners for k, size in enumerate(images.sizes)
        ]
        first = self.proposals.losses(logits, deltas, anchors, images.sizes, images.boxes)
        sample = self.regions.sample(found, images.boxes)
        features = self.described(x, sample.corners, images.sizes)
        return (*first, *self.regions.losses(features, sample))

    def described(
        self, x: Float[Tensor, "n d h w"], corners: Sequence[Float[Tensor, "_ 4"]], sizes: Sequence[Size]
    ) -> Float[Tensor, "r f"]:
        """The features of regions of each image, through the head; with global context also the whole image's."""
        options, size = self.options, self.body.pool_size
        features = self.body.head(pooled(x, corners, size, options.pooling))
        if not options.context:
            return features
        whole = [x.new_tensor([[0.0, 0.0, width, height]], dtype=torch.float32) for height, width in sizes]
        around = self.body.head(pooled(x, whole, size, options.pooling))
        counts = torch.tensor([len(part) for part in corners], device=x.device)
        return torch.cat([features, around.repeat_interleave(counts, 0)], 1)


def detector(options: DetectorOptions, row: Architecture, seed: int) -> FasterRCNN:
    """The detector as a training with this seed starts with it."""
    torch.manual_seed(seed)
    return FasterRCNN(row, options)


def _channels(stage: nn.Module) -> int:
    *_, block = stage.children()
    assert isinstance(block, BasicBlock | Bottleneck)  # noqa: S101 -- for the type checker
    last = block.conv2 if isinstance(block, BasicBlock) else block.conv3
    return last.out_channels
