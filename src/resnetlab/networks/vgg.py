"""VGG-16 (Simonyan and Zisserman, 2015), the baseline of the paper's Tables 7 and 8, as detection uses it.

State-dict names are torchvision's, so its `vgg16` and `vgg16_bn` weights load as they are.
"""

from jaxtyping import Float
from torch import Tensor, nn

from resnetlab.networks.architecture import Architecture

HIDDEN = 4096
POOLED = 7


class VGG(nn.Module):
    """13 convolutions of 3x3, four of 2x2 max pooling between them, and two hidden layers.

    The last pooling is the detector's RoI pooling. Weights start as in He et al. 2015, biases at 0.
    """

    def __init__(self, row: Architecture) -> None:
        super().__init__()
        self.architecture = row
        self.features = nn.Sequential()
        channels = row.in_channels
        for k, (width, count) in enumerate(zip(row.widths, row.blocks, strict=True)):
            if k:
                self.features.append(nn.MaxPool2d(2, 2))
            for _ in range(count):
                self.features.append(nn.Conv2d(channels, width, 3, padding=1))
                if row.block == "normalised":
                    self.features.append(nn.BatchNorm2d(width))
                self.features.append(nn.ReLU(inplace=True))
                channels = width
        self.hidden = HIDDEN // row.narrow
        self.classifier = nn.Sequential(
            nn.Linear(channels * POOLED * POOLED, self.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n width h2 w2"]:
        """The feature map of stride 16."""
        features: Tensor = self.features(x)
        return features
