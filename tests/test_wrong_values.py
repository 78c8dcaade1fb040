"""Wrong values from Python end in one error that names them, in a process without the type checks of the tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import build
from tests.material import ABOUT

CALLS = {
    'resnetlab.build("resnet18", shortcut="b")': "`shortcut='b'`: it must be none or A or B or C",
    'resnetlab.build("resnet50", version=1.5)': "`version=1.5`: it must be v1 or v1.5",
    'resnetlab.build("resnet50", version="v2")': "`version='v2'`: it must be v1 or v1.5",
    'resnetlab.build("resnet18", max_pool="x")': "`max_pool='x'`: it must be padded or ceil",
    'resnetlab.build("resnet18-A", zero_channels="x")': "`zero_channels='x'`: it must be end or both",
    'resnetlab.build("resnet18", num_classes=0)': "`num_classes=0`: it must be a whole number above 0",
    'resnetlab.build("resnet18", num_classes="5")': "`num_classes='5'`: it must be a whole number above 0",
    'resnetlab.build("resnet18", in_channels=-1)': "`in_channels=-1`: it must be a whole number above 0",
    'resnetlab.build("resnet18", narrow=2.0)': "`narrow=2.0`: it must be a whole number above 0",
    'resnetlab.build("resnet20")': "unknown network 'resnet20': did you mean cifar_resnet20?",
    "resnetlab.predict(model, pixels, top=-1)": "`top=-1`: it must be a whole number of at least 1",
    'resnetlab.predict(model, pixels, top="3")': "`top='3'`: it must be a whole number of at least 1",
    "resnetlab.predict(model, pixels, batch_size=0)": "`batch_size=0`: it must be a whole number of at least 1",
    'resnetlab.open_engine(model, precision="fp16")': "`precision='fp16'`: it must be one of auto, float32, bfloat16",
    "resnetlab.open_engine(model, threads=0)": "`threads=0`: it must be a whole number of at least 1",
    'resnetlab.open_engine(model, device="gpu")': "`device=gpu`: torch has none here",
    'resnetlab.evaluate(model, "x", protocol="tencrop")': "`protocol='tencrop'`: it must be one of center, ten-crop",
    'resnetlab.evaluate(model, "x", split="tset")': "`split='tset'`: it must be one of test, validation, train, all",
    'resnetlab.evaluate(model, "x", device="gpu")': "`device='gpu'`: it must be one of auto, cpu, cuda, mps",
    'resnetlab.evaluate(model, "x", workers=0)': "`workers=0`: it must be a whole number of at least 1",
    'resnetlab.train("digits", network=model)': "`network=Model(resnet18-narrow8, 3 classes, of unstated origin)`",
    'resnetlab.train("digits", folds=5)': "train has no option 'folds': only the command line has it",
    'resnetlab.train("digits", learning_rate=1)': "train has no option 'learning_rate': it is `lr`",
    'resnetlab.Run("nowhere")': "nowhere does not exist",
    'resnetlab.train("digits", compile="maybe")': "`compile='maybe'`: it must be one of auto, yes, no",
    "resnetlab.Model(grey, resnetlab.Preprocessing.by_channel(fit, (0.5,), (0.2,)), names)": "give `mode='L'`",
}
SCRIPT = """
import json, sys, numpy as np, resnetlab
model, fit, names = resnetlab.load(sys.argv[1]), resnetlab.Fit.square(32), tuple("0123456789")
pixels, grey = np.zeros((8, 8, 3), np.uint8), resnetlab.build("cifar_resnet8", in_channels=1)
for call in json.load(sys.stdin):
    try:
        print(json.dumps(f"no error, but {eval(call)}"))
    except resnetlab.ResnetlabError as error:
        print(json.dumps(str(error)))
    except Exception as error:
        print(json.dumps(repr(error)))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each call says."""
    path = tmp_path_factory.mktemp("wrong") / "m.safetensors"
    save(Model(build("resnet18-narrow8", num_classes=3), ABOUT, ("ant", "bee", "cow")), path)
    command = [sys.executable, "-c", SCRIPT, str(path)]
    source = str(Path(__file__).parents[1] / "src")
    done = subprocess.run(
        command, input=json.dumps(list(CALLS)), capture_output=True, text=True, check=True, cwd=source
    )
    return dict(zip(CALLS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_value_is_named(call: str, said: dict[str, str]) -> None:
    assert CALLS[call] in said[call]
