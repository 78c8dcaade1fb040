"""Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015): every network and experiment.

Names are imported when they are first used, so that `import resnetlab` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str | None
    from resnetlab.api import Evaluation as Evaluation
    from resnetlab.api import Run as Run
    from resnetlab.api import evaluate as evaluate
    from resnetlab.api import train as train
    from resnetlab.data.preprocessing import Fit as Fit
    from resnetlab.data.preprocessing import Preprocessing as Preprocessing
    from resnetlab.errors import DivergedError as DivergedError
    from resnetlab.errors import Interrupted as Interrupted
    from resnetlab.errors import ResnetlabError as ResnetlabError
    from resnetlab.inference.engines import open_engine as open_engine
    from resnetlab.inference.predict import Prediction as Prediction
    from resnetlab.inference.predict import Unreadable as Unreadable
    from resnetlab.inference.predict import predict as predict
    from resnetlab.models.importing import Hints as Hints
    from resnetlab.models.importing import import_weights as import_weights
    from resnetlab.models.importing import read_model as read_model
    from resnetlab.models.modelfile import Model as Model
    from resnetlab.models.modelfile import load as load
    from resnetlab.models.modelfile import save as save
    from resnetlab.networks.architecture import Architecture as Architecture
    from resnetlab.networks.architecture import architecture as architecture
    from resnetlab.networks.architecture import parse as parse
    from resnetlab.networks.resnet import ResNet as ResNet
    from resnetlab.networks.resnet import build as build
else:
    PLACES = {
        "Evaluation": "api",
        "Run": "api",
        "evaluate": "api",
        "train": "api",
        "Fit": "data.preprocessing",
        "Preprocessing": "data.preprocessing",
        "DivergedError": "errors",
        "Interrupted": "errors",
        "ResnetlabError": "errors",
        "open_engine": "inference.engines",
        "Prediction": "inference.predict",
        "Unreadable": "inference.predict",
        "predict": "inference.predict",
        "Hints": "models.importing",
        "import_weights": "models.importing",
        "read_model": "models.importing",
        "Model": "models.modelfile",
        "load": "models.modelfile",
        "save": "models.modelfile",
        "Architecture": "networks.architecture",
        "architecture": "networks.architecture",
        "parse": "networks.architecture",
        "ResNet": "networks.resnet",
        "build": "networks.resnet",
    }

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return import_module("resnetlab.version").installed()
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)

    def __dir__() -> list[str]:
        return ["__version__", *PLACES]
