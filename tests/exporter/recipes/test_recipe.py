"""Recipes: which matrix is stored how."""

from dataclasses import replace

import pytest

from foggen_exporter.recipes.recipe import BLOCK_SIZES, RECIPES, find_recipe, fitted
from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.errors import CheckpointError, ConfigError

INT4 = [name for name, recipe in RECIPES.items() if recipe.layers.bits == 4]


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(ConfigError, match=r"quant: must be one of fp32, int8, .*, is 'int3'"):
        find_recipe("int3")


@pytest.mark.parametrize("name", INT4)
@pytest.mark.parametrize("size", BLOCK_SIZES)
def test_other_blocks_hold_for_layers_and_embedding(name: str, size: int) -> None:
    changed = find_recipe(name).with_blocks(size, symmetric=True)
    expected = WeightFormat(4, size, symmetric=True, accuracy_level=4)
    assert (changed.layers, changed.embedding) == (expected, expected)
    assert changed.finer is None or changed.finer.block_size == size
    kept = find_recipe(name).with_blocks(size, symmetric=False)
    assert (kept.layers.symmetric, kept.embedding.block_size) == (False, size)


def test_nothing_asked_changes_nothing() -> None:
    for recipe in RECIPES.values():
        assert recipe.with_blocks(None, symmetric=False) == recipe


def test_without_a_size_only_the_zero_points_go() -> None:
    changed = find_recipe("int4").with_blocks(None, symmetric=True)
    assert (changed.layers.block_size, changed.layers.symmetric) == (128, True)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - set(INT4)))
def test_recipes_without_blocks_of_4_bits_take_no_others(name: str) -> None:
    with pytest.raises(ConfigError, match=f"block_size: {name} has no 4-bit blocks"):
        find_recipe(name).with_blocks(32, symmetric=True)
    with pytest.raises(ConfigError, match=f"symmetric: {name} has no 4-bit blocks"):
        find_recipe(name).with_blocks(None, symmetric=True)


def test_a_block_size_that_is_not_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="block_size: must be one of 32, 64, 128, is 256"):
        find_recipe("int4").with_blocks(256, symmetric=False)


def test_finer_groups_are_stored_finer_and_recorded() -> None:
    recipe = find_recipe("int4-mixed")
    finer = recipe.with_finer(frozenset({"layers.3.o_proj", "layers.0.down_proj"}))
    columns = {f"layers.{i}.{name}": 256 for i in range(4) for name in ("o_proj", "down_proj")}
    assert {name for name in columns if finer.form(name, 256).bits == 8} == {
        *("layers.0.down_proj", "layers.3.o_proj")
    }
    assert finer.embedding.bits == 4
    groups = finer.groups(columns, 128)
    assert list(groups) == ["layers", "embedding", "layers.0.down_proj", "layers.3.o_proj"]
    assert [form.bits for form in groups.values()] == [4, 4, 8, 8]
    groups = recipe.with_finer(frozenset({"embedding"})).groups(columns, 128)
    assert groups["embedding"].bits == 8


@pytest.mark.parametrize(("columns", "size"), [(1024, 128), (576, 64), (96, 32)])
def test_blocks_that_do_not_divide_a_matrix_give_way_to_smaller_ones(
    columns: int, size: int
) -> None:
    form = find_recipe("int4").layers
    assert fitted(form, columns) == replace(form, block_size=size)
    smallest = replace(form, block_size=32)
    assert fitted(smallest, columns) == smallest


def test_formats_without_blocks_stay() -> None:
    for name in ("fp32", "int8"):
        form = find_recipe(name).layers
        assert fitted(form, 33) == form


def test_where_no_blocks_divide_the_matrix_is_named() -> None:
    message = "o_proj: input size must be a multiple of 32, the smallest block, is 80; choose a"
    with pytest.raises(CheckpointError, match=message):
        find_recipe("int4").form("o_proj", 80)


def test_groups_say_which_blocks_are_whose() -> None:
    columns = {f"layers.{i}.{name}": 576 for i in range(2) for name in ("qkv_proj", "o_proj")}
    columns |= {f"layers.{i}.down_proj": 1536 for i in range(2)}
    mixed = find_recipe("int4-mixed").with_finer(frozenset({"layers.1.o_proj"}))
    found = mixed.groups(columns, 96)
    assert {name: (form.bits, form.block_size) for name, form in found.items()} == {
        "layers": (4, 64),
        "embedding": (4, 32),
        "layers.0.down_proj": (4, 128),
        "layers.1.down_proj": (4, 128),
        "layers.1.o_proj": (8, 64),
    }


def test_a_recipe_of_one_format_has_no_finer_one() -> None:
    with pytest.raises(ValueError, match="finer: int4 has no finer format"):
        find_recipe("int4").with_finer(frozenset())
