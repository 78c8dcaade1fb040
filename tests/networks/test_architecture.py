"""The text of an architecture, and its JSON: inverse of reading them, and refused where they mean nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resnetlab
from resnetlab.choices import MaxPool, Version, ZeroChannels
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import NAMES, Architecture, architecture, from_fields, parse, with_options


def with_all_options(name: str) -> Iterator[Architecture]:
    """A network of the table with every combination of options that it can have."""
    row = architecture(name)
    shortcuts = ("A", "B", "C") if row.shortcut != "none" else ("none",)
    versions = get_args(Version) if row.block == "bottleneck" else ("v1",)
    pools = get_args(MaxPool) if row.stem == "imagenet" else ("padded",)
    narrows = [k for k in range(1, row.widths[0] + 1) if row.widths[0] % k == 0]
    places = get_args(ZeroChannels)
    for shortcut, version, place, pool, narrow in product(shortcuts, versions, places, pools, narrows):
        if place == "end" or shortcut == "A":
            yield with_options(
                row, shortcut=shortcut, version=version, zero_channels=place, max_pool=pool, narrow=narrow
            )


ROWS = [row for name in [*NAMES, "cifar_resnet8", "cifar_plain14"] for row in with_all_options(name)]
rows = st.sampled_from(ROWS)


def test_every_text_is_read_back_and_no_two_are_the_same() -> None:
    assert [parse(str(row)) for row in ROWS] == ROWS
    assert len({str(row) for row in ROWS}) == len(ROWS)


@given(row=rows, data=st.data())
def test_options_come_in_any_order(row: Architecture, data: st.DataObject) -> None:
    text = str(row)
    name, *options = text.split("-")
    assert str(parse("-".join([name, *data.draw(st.permutations(options))]))) == text


@given(row=rows, classes=st.integers(1, 1000), channels=st.integers(1, 4))
def test_json_and_from_fields_are_inverse(row: Architecture, classes: int, channels: int) -> None:
    row = replace(row, num_classes=classes, in_channels=channels)
    assert from_fields(json.loads(json.dumps(asdict(row)))) == row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet34", architecture("resnet34")),
        ("resnet34-A", with_options(architecture("resnet34"), shortcut="A")),
        ("resnet34-B", architecture("resnet34")),
        ("cifar_resnet20-B", with_options(architecture("cifar_resnet20"), shortcut="B")),
        ("resnet50-v1.5", with_options(architecture("resnet50"), version="v1.5")),
        ("resnet50-v1", architecture("resnet50")),
        ("resnet18-narrow8-A", with_options(architecture("resnet18"), shortcut="A", narrow=8)),
        ("cifar_resnet20-padboth", with_options(architecture("cifar_resnet20"), zero_channels="both")),
        ("resnet50-ceilpool", with_options(architecture("resnet50"), max_pool="ceil")),
    ],
)
def test_texts(text: str, expected: Architecture) -> None:
    assert parse(text) == expected


def test_the_order_of_the_text() -> None:
    row = parse("resnet50-narrow4-ceilpool-padboth-v1.5-A")
    assert str(row) == f"{row}" == "resnet50-A-v1.5-padboth-ceilpool-narrow4"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("resnt50-A", "'resnt50-A': unknown network 'resnt50': did you mean resnet50"),
        ("resnet34-D", "'resnet34-D': unknown option 'D'. Options of resnet34: A, B, C, padboth"),
        ("resnet34-", "unknown option ''"),
        ("resnet34-none", "unknown option 'none'"),
        ("resnet34-a", "unknown option 'a'"),
        ("resnet34-A-A", "option 'A' is given twice"),
        ("resnet34-A-narrow2-B", "option 'B' contradicts 'A'"),
        ("resnet50-v1.5-v1", "option 'v1' contradicts 'v1.5'"),
        ("resnet34-narrow2-narrow4", "option 'narrow4' contradicts 'narrow2'"),
        ("resnet18-v1.5", "no version v1.5.*Options of resnet18: A, B, C, padboth"),
        (
            "plain34-A",
            "the network that has it is resnet34. Options of plain34: ceilpool, narrowN where N divides 64",
        ),
        ("resnet34-padboth", "only option A does"),
        ("cifar_resnet20-ceilpool", "no maximum pooling"),
        ("cifar_resnet20-narrow3", "its first 16 filters must divide"),
        ("cifar_resnet20-narrow0", "unknown option 'narrow0'"),
        ("cifar_resnet٢٠", "unknown network"),
    ],
)
def test_texts_that_are_refused(text: str, hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        parse(text)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"name": None}, "field 'name' is None; expected a text"),
        ({"stem": "mnist"}, "field 'stem' is 'mnist'; expected imagenet or cifar"),
        ({"shortcut": ["A"]}, "field 'shortcut'"),
        ({"blocks": "333"}, "field 'blocks' is '333'; expected a list of whole numbers"),
        ({"blocks": [3, 3, 3.0]}, "field 'blocks'"),
        ({"blocks": [3, 3]}, r"field 'blocks' is \[3, 3\]; expected 3 stages"),
        ({"num_classes": True}, "field 'num_classes' is True"),
        ({"narrow": 0}, "field 'narrow' is 0"),
        ({"narrow": 5}, "5 times narrower"),
    ],
)
def test_fields_that_are_refused(change: dict[str, object], hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        from_fields({**asdict(architecture("cifar_resnet20")), **change})


def test_fields_of_old_files() -> None:
    old = asdict(architecture("cifar_resnet20"))
    for name in ("max_pool", "narrow", "version"):
        del old[name]
    assert from_fields(old) == architecture("cifar_resnet20")
    del old["blocks"]
    with pytest.raises(ResnetlabError, match="no field 'blocks'"):
        from_fields(old)


def test_the_table_does_not_import_pytorch() -> None:
    (folder,) = resnetlab.__path__
    code = f"""if True:
        import sys, types
        package = types.ModuleType("resnetlab")  # without what the package itself imports
        package.__path__ = [{str(Path(folder))!r}]
        sys.modules["resnetlab"] = package
        import resnetlab.choices, resnetlab.networks.architecture, resnetlab.models, resnetlab.inference
        from resnetlab.networks.architecture import parse
        assert str(parse("resnet34-A")) == "resnet34-A"
        assert not {{"torch", "numpy"}} & set(sys.modules), "PyTorch or NumPy is imported"
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_options_beside_a_text_must_not_contradict_it() -> None:
    assert str(parse("resnet34", shortcut="A", narrow=4)) == "resnet34-A-narrow4"
    assert parse("resnet34-A", shortcut="A", version=None) == parse("resnet34-A")
    for text, other in (("resnet34-A", {"shortcut": "C"}), ("resnet50-v1.5", {"version": "v1"})):
        with pytest.raises(ResnetlabError, match="contradicts"):
            parse(text, **other)
    with pytest.raises(ResnetlabError, match="'narrow4' contradicts narrow 1"):
        parse("resnet34-narrow4", narrow=1)
