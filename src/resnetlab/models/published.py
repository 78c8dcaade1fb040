"""Weights that others have published: by name, downloaded once, verified, and found without a network after that.

Nothing here imports PyTorch.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from resnetlab.data.download import check, download
from resnetlab.errors import ResnetlabError, near_matches

TORCHVISION = "https://download.pytorch.org/models/"
HOME = "RESNETLAB_HOME"
HUBS = ("timm/", "microsoft/")
"""Owners of repositories on Hugging Face's hub whose files are recognised."""
IN_HUB = ["config.json", "model.safetensors", "pytorch_model.bin"]


@dataclass(frozen=True)
class Published:
    """A published file of weights; accuracies in percent, of one centre crop on ImageNet's validation images."""

    name: str
    network: str
    file: str
    top1: float
    top5: float
    megabytes: int
    licence: str = "BSD-3-Clause"

    @property
    def url(self) -> str:
        """Where it is."""
        return TORCHVISION + self.file

    @property
    def digest(self) -> str:
        """The start of its SHA-256, which is in its name, for `download`."""
        return "sha256:" + Path(self.file).stem.rpartition("-")[2]

    @property
    def place(self) -> Path:
        """The file in the cache."""
        return home() / "weights" / self.file

    @property
    def cached(self) -> Path | None:
        """The file on this machine, in our cache or in PyTorch's."""
        hub = Path(os.environ.get("TORCH_HOME") or _cache() / "torch") / "hub/checkpoints" / self.file
        return next((path for path in (self.place, hub) if path.is_file()), None)

    @property
    def about(self) -> dict[str, object]:
        """What a model's provenance keeps of it."""
        return {"url": self.url} | {key: asdict(self)[key] for key in ("name", "licence", "top1", "top5")}


# From torchvision's documentation: v1 are trained much as the paper says, v2 with its later recipe
PUBLISHED = (
    Published("torchvision/resnet18", "resnet18", "resnet18-f37072fd.pth", 69.758, 89.078, 45),
    Published("torchvision/resnet34", "resnet34", "resnet34-b627a593.pth", 73.314, 91.420, 83),
    Published("torchvision/resnet50.v1", "resnet50-v1.5", "resnet50-0676ba61.pth", 76.130, 92.862, 98),
    Published("torchvision/resnet50.v2", "resnet50-v1.5", "resnet50-11ad3fa6.pth", 80.858, 95.434, 98),
    Published("torchvision/resnet101.v1", "resnet101-v1.5", "resnet101-63fe2227.pth", 77.374, 93.546, 171),
    Published("torchvision/resnet101.v2", "resnet101-v1.5", "resnet101-cd907fc2.pth", 81.886, 95.780, 171),
    Published("torchvision/resnet152.v1", "resnet152-v1.5", "resnet152-394f9c45.pth", 78.312, 94.046, 230),
    Published("torchvision/resnet152.v2", "resnet152-v1.5", "resnet152-f82ba261.pth", 82.284, 96.002, 230),
    Published("torchvision/vgg16", "vgg16", "vgg16-397923af.pth", 71.592, 90.382, 528),
    Published("torchvision/vgg16_bn", "vgg16_bn", "vgg16_bn-6c64b313.pth", 73.360, 91.516, 528),
)


def home() -> Path:
    """The folder of downloaded weights: $RESNETLAB_HOME, or `resnetlab` in the user's cache."""
    return Path(os.environ.get(HOME) or _cache() / "resnetlab")


def published(name: str) -> Published | None:
    """The published weights of a name: `torchvision/resnet50.v2`, `torchvision/resnet50` or `resnet50`.

    Without a version they are the later ones, as in torchvision. Upper and lower case are the same.
    """
    wanted = name.lower().removeprefix("torchvision/")
    names = {each.name.removeprefix("torchvision/"): each for each in PUBLISHED}
    return names.get(wanted) or names.get(f"{wanted}.v2")


def of_digest(sha256: str) -> Published | None:
    """The published weights whose file has this hash."""
    return next((each for each in PUBLISHED if sha256.startswith(each.digest.partition(":")[2])), None)


def located(source: os.PathLike[str] | str) -> Path:
    """The path of a model: itself if there is something, else that of published weights, downloaded if need be.

    Raises:
        ResnetlabError: an unknown name of a known owner, or weights that are neither here nor can be downloaded.
    """
    path, name = Path(source), os.fspath(source)
    if path.exists():
        return path
    if known := published(name):
        return _fetched(known)
    if name.startswith("torchvision/"):
        refuse_unknown(name)
    return _from_hub(name) if name.startswith(HUBS) else path


def refuse_unknown(name: str) -> None:
    """Refuse what is no name of published weights.

    Raises:
        ResnetlabError: names similar ones.
    """
    if not published(name) and not name.startswith(HUBS):
        short = name.removeprefix("torchvision/")
        names = dict.fromkeys(each.name.removeprefix("torchvision/").partition(".")[0] for each in PUBLISHED)
        raise ResnetlabError(f"there are no published weights {name!r}: {near_matches(short, names)}")


def _fetched(known: Published) -> Path:
    if found := known.cached:
        check(found, known.digest)
        return found
    home().mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(home() / ".download.lock"):  # processes of one run download once
        return download(known.url, known.place, known.digest)


def _from_hub(name: str) -> Path:
    """The folder of a repository's weights and configuration in the cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ModuleNotFoundError:
        raise ResnetlabError(f"{name} is on Hugging Face's hub; to download it install `resnetlab[hub]`") from None
    try:
        return Path(snapshot_download(name, allow_patterns=IN_HUB, cache_dir=home() / "hub"))
    except RepositoryNotFoundError:
        raise ResnetlabError(f"Hugging Face's hub has no public repository {name}; is the name right?") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ResnetlabError(
            f"cannot download {name} from Hugging Face's hub ({reason}), and it is not in {home() / 'hub'}"
        ) from None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
