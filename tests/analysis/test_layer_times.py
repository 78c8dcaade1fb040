"""A network taken apart adds up to the whole, and a small study is complete and consistent."""

from collections.abc import Iterator

import pytest
import torch

from resnetlab.analysis.layer_times import NETWORKS, study
from resnetlab.analysis.parts import NORM, OPTIMIZER, PROJECTION, REST, parts, stages
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse
from resnetlab.networks.measure import multiply_adds, on_meta

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def record(_one_thread: None) -> dict:
    return study(("cifar_resnet8", "cifar_plain14", "resnet18"), CPU, 2, 2, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_have_all_multiply_adds(name: str) -> None:
    row = parse(name)
    whole = multiply_adds(on_meta(row), (3, 224, 224))
    found = parts(row, 4, 224)
    for group in ("stage", "kind"):
        sums: dict[str, int] = {}
        for part in found:
            sums[getattr(part, group)] = sums.get(getattr(part, group), 0) + part.multiply_adds
        assert sum(sums.values()) == whole
    assert {part.stage for part in found} == set(stages(row))
    assert all(part.input[0] == 4 for part in found)


def test_stages_of_resnet_50() -> None:
    sums = dict.fromkeys(stages(parse("resnet50")), 0)
    for part in parts(parse("resnet50"), 1, 224):
        sums[part.stage] += part.multiply_adds
    assert sums == {
        "conv1": 118_013_952,
        "conv2_x": 667_942_912,
        "conv3_x": 950_534_144,
        "conv4_x": 1_387_266_048,
        "conv5_x": 732_168_192,
        "fc": 2_048_000,
    }


def test_kinds_of_resnet_50() -> None:
    found = parts(parse("resnet50"), 1, 224)
    count = {kind: sum(part.kind == kind for part in found) for kind in {part.kind for part in found}}
    assert count == {
        "7x7 conv": 1,
        "1x1 conv": 32,
        "3x3 conv": 16,
        PROJECTION: 4,
        NORM: 53,
        "max pool": 1,
        "average pool, fc": 2,
    }


def test_training_is_three_times_forward_but_for_the_images() -> None:
    first, *others = [part for part in parts(parse("resnet18"), 1, 224) if part.multiply_adds]
    assert first.training_multiply_adds == 2 * first.multiply_adds
    assert all(part.training_multiply_adds == 3 * part.multiply_adds for part in others)


def test_a_study_is_complete(record: dict) -> None:
    assert list(record["networks"]) == ["cifar_resnet8", "cifar_plain14", "resnet18"]
    for name, found in record["networks"].items():
        row = parse(name)
        assert found["multiply_adds"] == multiply_adds(on_meta(row), (3, 32, 32))
        assert list(found["stages"]) == [*stages(row), OPTIMIZER]
        for way in ("forward", "training"):
            assert len(found[way]) == 2
            assert min(found[way]) > 0
            assert all(entry[way] >= 0 for kind, entry in found["kinds"].items() if kind != REST)
        for by in ("kinds", "stages"):
            assert sum(entry["multiply_adds"] for entry in found[by].values()) == found["multiply_adds"]
    assert record["reference"]["forward_per_second"] > 0


def test_kinds_add_up_to_the_whole(record: dict) -> None:
    for found in record["networks"].values():
        for way in ("forward", "training"):
            whole = sum(found[way]) / 2  # of two rounds, the median
            assert sum(entry[way] for entry in found["kinds"].values()) == pytest.approx(whole)


def test_stages_take_the_whole_time() -> None:
    found = study(("cifar_resnet8",), CPU, 2, 1)["networks"]["cifar_resnet8"]
    for way in ("forward", "training"):
        assert sum(entry[way] for entry in found["stages"].values()) == pytest.approx(found[way][0])


@pytest.mark.slow
def test_turns_are_given_to_whom_it_concerns() -> None:
    seen = []

    def watch(turns):
        seen.append(len(turns))
        return turns

    study(("cifar_plain8",), CPU, 2, 3, watch=watch)
    different = {part.key for part in parts(parse("cifar_plain8"), 2, 32)}
    assert seen == [3 * (1 + len(different) + 1)]


@pytest.mark.parametrize(
    ("names", "batch_size", "image_size", "text"),
    [
        (("resnet51",), 2, None, "unknown network"),
        (("resnet18-v1.5",), 2, None, "no bottleneck blocks"),
        (("resnet18",), 2, 16, "32 times smaller"),
        (("resnet18",), 1, 32, "`batch_size` or `image_size`"),
    ],
)
def test_what_cannot_be_measured(names, batch_size: int, image_size: int | None, text: str) -> None:
    with pytest.raises(ResnetlabError, match=text):
        study(names, CPU, batch_size, 1, image_size)
