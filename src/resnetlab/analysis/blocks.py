"""The blocks of a network: hooks on their inputs, residual functions and outputs, and exchange of blocks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.resnet import BasicBlock, Bottleneck, ResNet

Look = Callable[[Tensor], None]


@dataclass(frozen=True)
class Block:
    """One block of a network, e.g. `layer1.0`: `stage` is the module that holds it, `key` its name in there."""

    name: str
    stage: nn.Module
    key: str
    module: BasicBlock | Bottleneck

    @property
    def last_norm(self) -> nn.Module:
        """The last batch normalisation, whose output is F(x); in a plain network, the block's output before ReLU."""
        return self.module.bn3 if isinstance(self.module, Bottleneck) else self.module.bn2

    @property
    def keeps_shape(self) -> bool:
        """Whether its input and output have the same shape."""
        convolutions = [m for m in self.module.children() if isinstance(m, nn.Conv2d)]
        same = convolutions[0].in_channels == convolutions[-1].out_channels
        return same and all(convolution.stride[0] == 1 for convolution in convolutions)


def blocks(network: ResNet) -> list[Block]:
    """All blocks, in order.

    Raises:
        ResnetlabError: a stage has modules that are not blocks of the paper, e.g. in a network for fast inference.
    """
    found: list[Block] = []
    for number, stage in enumerate(network.stages(), start=1):
        for key, module in stage.named_children():
            if not isinstance(module, BasicBlock | Bottleneck):
                raise ResnetlabError(f"layer{number}.{key} is a {type(module).__name__}, not a block of the paper")
            found.append(Block(f"layer{number}.{key}", stage, key, module))
    return found


def need_shortcuts(architecture: Architecture, what: str) -> None:
    """Refuse plain networks.

    Raises:
        ResnetlabError: the network has no shortcuts.
    """
    if not architecture.is_residual:
        raise ResnetlabError(f"{architecture.label} has no shortcuts; {what} needs a residual network")


class Skip(nn.Module):
    """A block without its residual function: y = relu(shortcut(x))."""

    def __init__(self, shortcut: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The shortcut alone."""
        return F.relu(self.shortcut(x))


def without_function(block: Block) -> nn.Module | None:
    """What is left of a block without its residual function; None if nothing maps its input to its output.

    A residual block leaves its shortcut. A block of a plain network leaves the identity if it keeps the shape.
    """
    if block.module.downsample is not None:
        return Skip(block.module.downsample)
    return nn.Identity() if block.keeps_shape else None


@contextmanager
def exchanged(replacements: Mapping[Block, nn.Module]) -> Iterator[None]:
    """Within this context, other modules stand in the places of these blocks."""
    for block, module in replacements.items():
        setattr(block.stage, block.key, module)
    try:
        yield
    finally:
        for block in replacements:
            setattr(block.stage, block.key, block.module)


@contextmanager
def watching(outputs: Mapping[nn.Module, Look], inputs: Mapping[nn.Module, Look] | None = None) -> Iterator[None]:
    """Within this context, functions get modules' outputs right after they are computed, and their inputs before."""
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, look=look: look(output))
        for module, look in outputs.items()
    ]
    handles += [
        module.register_forward_pre_hook(lambda _module, inputs, look=look: look(inputs[0]))
        for module, look in (inputs or {}).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
