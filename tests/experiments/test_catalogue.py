"""The catalogue: the paper's experiments to the letter, runs that are shared, options that take effect."""

from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from resnetlab.data.named import NAMED
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.protocol import RELATIVE_COST
from resnetlab.experiments.catalogue import CATALOGUE, find
from resnetlab.experiments.experiment import Experiment, refuse_unused
from resnetlab.experiments.options import Options
from resnetlab.networks.architecture import architecture, parse
from resnetlab.networks.measure import multiply_adds, on_meta
from resnetlab.paper.tables import TABLE2, TABLE3, TABLE4, TABLE6, printed
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec, default_recipe, network_of
from resnetlab.training.resolve import RecipeOptions

IMAGENET = ("figure4", "table2", "table3", "table4", "table5")


def experiment(name: str) -> Experiment:
    found = find(name)
    assert isinstance(found, Experiment)
    return found


def specs(name: str, scale: str, images: int = 1297, **options: object) -> dict[str, RunSpec]:
    return experiment(name).specs(Options(scale=scale, **options), images)  # type: ignore[arg-type]


def test_figure_6_at_full_scale_is_the_papers_experiment() -> None:
    found = specs("figure6", "full", 50_000, seeds=2)
    assert len(found) == 20
    for spec in found.values():
        assert (spec.data.name, spec.recipe.iterations, spec.recipe.drops) == ("cifar10", 64_000, (32_000, 48_000))
        assert (spec.recipe.warmup_rate == 0.01) == (spec.architecture.depth >= 110)
    networks = {spec.architecture.name for spec in specs("table6", "full", 50_000).values()}
    assert networks == {row.network for row in TABLE6 if row.network}


def test_the_short_scale_is_a_tenth_of_the_papers_schedule() -> None:
    for name in ("figure1", "figure6", "table6"):
        for spec in specs(name, "short", 50_000).values():
            recipe = spec.recipe
            assert (spec.data.name, recipe.iterations, recipe.drops) == ("cifar10", 6400, (3200, 4800))
            assert (recipe.batch_size, recipe.learning_rate, recipe.padding) == (128, 0.1, 4)
    (deep,) = specs("table6", "short", 50_000, networks=("resnet110",)).values()
    assert deep.recipe.warmup_rate == 0.01
    mine = specs("figure6", "short", data="my/CIFAR-10 (JPEG)")
    assert "CIFAR-10 (JPEG)-cifar_plain20-cifar-short-6400-seed0" in mine


@pytest.mark.parametrize("name", IMAGENET)
def test_tables_at_full_scale_are_the_papers_experiments(name: str) -> None:
    for spec in specs(name, "full", 1_281_167).values():
        recipe = spec.recipe
        assert (recipe.iterations, recipe.drops, recipe.batch_size) == (600_000, (150_000, 300_000), 256)
        assert (recipe.statistics_over, recipe.exact_statistics) == (32, True)
        assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
        assert (recipe.crop, recipe.sides, recipe.crop_size, recipe.colour) == ("shorter-side", (256, 480), 224, 0.1)
        assert spec.architecture.narrow == 1
    protocols = {"figure4": "center", "table2": "ten-crop", "table3": "ten-crop"}
    assert experiment(name).protocol == protocols.get(name, "dense")


def test_the_networks_are_those_of_the_tables() -> None:
    tables = (("table2", TABLE2, "ten-crop"), ("table3", TABLE3, "ten-crop"), ("table4", TABLE4, "dense"))
    for name, rows, protocol in tables:
        theirs = {(row.network, row.shortcut) for row in rows if row.network}
        networks = [spec.architecture for spec in specs(name, "full").values()]
        assert {(row.name, row.shortcut) for row in networks} == theirs
        assert len(networks) == len(theirs)
        assert all(printed(row.name, row.shortcut, protocol) is not None for row in networks)
    six = specs("table5", "full")
    assert Counter(spec.architecture.depth for spec in six.values()) == {34: 2, 50: 1, 101: 1, 152: 2}
    assert sorted(spec.seed for spec in six.values() if spec.architecture.depth == 152) == [0, 1]
    assert {spec.seed for spec in specs("table5", "full", seeds=2).values()} == {0, 1, 2, 3}


def test_the_schedule_of_figure_4_can_end_where_it_is_drawn() -> None:
    recipe = RecipeOptions(iterations=550_000, fields=("drops=150000,300000",))
    (spec,) = specs("figure4", "full", 1_281_167, networks=("plain18",), recipe=recipe).values()
    assert (spec.recipe.iterations, spec.recipe.drops) == (550_000, (150_000, 300_000))


def test_recipes_are_changed() -> None:
    changes = ("validation=5000", "precision=bfloat16", "decayed=weights", "exact_statistics=true")
    found = specs("table6", "full", 50_000, networks=("resnet20", "resnet110"), recipe=RecipeOptions(fields=changes))
    for spec in found.values():
        recipe = spec.recipe
        assert (recipe.validation, recipe.precision, recipe.decayed) == (5000, "bfloat16", "weights")
        assert recipe.exact_statistics
        assert recipe.iterations == 64_000
    assert [spec.recipe.warmup_rate for spec in found.values()] == [None, 0.01]
    assert not found.keys() & specs("table6", "full", 50_000).keys()
    with pytest.raises(ResnetlabError, match="no field 'speed'"):
        specs("table6", "full", recipe=RecipeOptions(fields=("speed=1",)))


def test_runs_are_chosen_and_named_apart() -> None:
    found = specs("figure6", "digits", networks=("plain20", "cifar_resnet110"), recipe=RecipeOptions(iterations=64))
    assert list(found) == ["digits-cifar_plain20-digits-64-seed0", "digits-cifar_resnet110-digits-64-seed0"]
    with pytest.raises(ResnetlabError, match="for ImageNet"):
        specs("figure6", "digits", networks=("resnet50",))
    with pytest.raises(ResnetlabError, match="did you mean figure6"):
        find("figure66")


def test_runs_are_shared() -> None:
    assert specs("figure1", "digits").items() <= specs("figure6", "digits").items()
    table3, table4 = (specs(name, "digits") for name in ("table3", "table4"))
    assert table4.items() <= table3.items()
    assert specs("table2", "digits") == specs("figure4", "digits")
    assert all(spec.architecture.narrow == 8 for spec in table3.values())
    assert "digits-resnet34-C-narrow8-digits-imagenet-2000-seed0" in table3


def test_names_of_folders_are_read_back() -> None:
    for name in ("figure6", "options", *IMAGENET):
        for folder, spec in specs(name, "digits").items():
            assert parse(str(spec.architecture)) == spec.architecture
            assert f"-{spec.architecture}-" in folder


def test_widths_are_the_scales_unless_they_are_given() -> None:
    def only(**options: object) -> str:
        (spec,) = specs("table3", "digits", **options).values()
        return str(spec.architecture)

    assert only(networks=("resnet34-A",)) == "resnet34-A-narrow8"
    assert only(networks=("resnet34-A-narrow4",)) == "resnet34-A-narrow4"
    assert only(networks=("resnet34-A",), narrow=1) == "resnet34-A"
    with pytest.raises(ResnetlabError, match="contradicts narrow 2"):
        only(networks=("resnet34-A-narrow4",), narrow=2)


def test_small_crops_are_not_tested_fully_convolutionally() -> None:
    protocols = {(name, size): experiment(name).protocol_for(size) for name in IMAGENET for size in (32, 224)}
    assert protocols["table4", 224] == protocols["table5", 224] == "dense"
    assert {p for (name, size), p in protocols.items() if size == 32 and name != "figure4"} == {"ten-crop"}
    assert protocols["figure4", 32] == protocols["figure4", 224] == "center"
    assert experiment("table6").protocol_for(224) is None


def test_shortcut_options_are_named() -> None:
    found = list(specs("options", "digits").values())
    assert [str(spec.architecture) for spec in found[:3]] == [
        "cifar_resnet20",
        "cifar_resnet20-B",
        "cifar_resnet20-C",
    ]
    with pytest.raises(ResnetlabError, match="unknown option 'D'"):
        specs("table3", "digits", networks=("resnet34-D",))
    with pytest.raises(ResnetlabError, match="is for CIFAR"):
        specs("table3", "digits", networks=("cifar_resnet20",))
    with pytest.raises(ResnetlabError, match="cannot have shortcut"):
        specs("table3", "digits", networks=("plain34-A",))


def test_every_data_set_has_its_recipe() -> None:
    shallow, deep = architecture("cifar_resnet20"), architecture("cifar_resnet110")
    usual = [default_recipe(data, shallow) for data in ("digits", "cifar10", "cifar100", "x/y")]
    assert usual == ["digits", "cifar", "cifar", "short"]
    assert default_recipe("cifar100", deep) == "cifar-warmup"
    assert default_recipe("x/y", architecture("resnet50")) == "modern-short"
    assert default_recipe("x/y", architecture("resnet50"), started=True) == "finetune"
    assert default_recipe("x/y", architecture("resnet50"), task="detection") == "detection"
    assert default_recipe("x/y", architecture("resnet50"), started=True, task="detection") == "detection-finetune"
    assert set(NAMED) == {"digits", "digit-scenes", "cifar10", "cifar100"}


def test_protocols_cost_what_is_planned() -> None:
    """Against multiply-adds of each view of a photograph of 4:3."""
    network = on_meta(architecture("resnet34"))
    once = multiply_adds(network, (3, 224, 224))
    sides = (224, 256, 384, 480, 640)
    dense = sum(2 * multiply_adds(network, (3, side, round(side * 4 / 3))) for side in sides)
    assert RELATIVE_COST["dense"] == pytest.approx(dense / once, rel=0.03)
    assert RELATIVE_COST["ten-crop"] == 10


VALUES = {
    "scale": "full", "dry_run": True, "seeds": 2, "networks": ("resnet34",), "narrow": 2, "data": "x",
    "data_dir": Path("x"), "jobs": 2, "rounds": 2, "images": 300, "surface": 3, "weights": Path("x"),
}  # fmt: skip
RECIPE = {
    "name": "digits", "epochs": 1, "iterations": 1, "batch_size": 8, "image_size": 8, "freeze": "layer1",
    "balance": "loss", "accumulate": 2, "fields": ("seed=1",),
}  # fmt: skip
SETTINGS = {"device": "cpu", "threads": 1, "workers": 1, "compile": "no", "capture": "no", "recompute": "no"}
SETTINGS |= {"kernels": "torch"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_option_takes_effect_or_is_refused(name: str) -> None:
    assert SETTINGS.keys() == {field.name for field in fields(Settings)}
    entry = find(name)
    options = {option: Options(**{option: value}) for option, value in VALUES.items()}  # type: ignore[arg-type]
    options |= {option: Options(recipe=RecipeOptions(**{option: value})) for option, value in RECIPE.items()}  # type: ignore[arg-type]
    options |= {option: Options(settings=Settings(**{option: value})) for option, value in SETTINGS.items()}  # type: ignore[arg-type]
    assert entry.options <= options.keys()
    for option, given in options.items():
        assert given.given() == [option]
        if option in entry.options:
            refuse_unused(entry, given, CATALOGUE.values())
        else:
            with pytest.raises(ResnetlabError, match=f"`{option}` takes no effect with {name}; "):
                refuse_unused(entry, given, CATALOGUE.values())


def test_what_is_said_of_a_network_is_so_of_the_weights_to_start_from() -> None:
    start = parse("resnet50-v1.5")
    assert network_of(None, start) == network_of("resnet50", start) == network_of("resnet50-v1.5", start) == start
    assert network_of(None, start, version="v1.5", shortcut="B") == start
    for said in ({"shortcut": "C"}, {"version": "v1"}, {"narrow": 2}):
        with pytest.raises(ResnetlabError, match="weights to start from are of resnet50-v1.5, whose"):
            network_of(None, start, **said)
    with pytest.raises(ResnetlabError, match="whose name is resnet50, not resnet18"):
        network_of("resnet18", start)
    with pytest.raises(ResnetlabError, match="give a network by name"):
        network_of(None, None)
