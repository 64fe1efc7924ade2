"""Groups of weights, gathered to be read."""

from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.bundle.weight_groups import WeightGroup, weight_groups

FOUR, EIGHT = WeightFormat(4, 128, False, 4), WeightFormat(8, 128, True, 4)


def test_recipes_of_one_format_stay_as_they_are() -> None:
    groups = {"layers": FOUR, "embedding": EIGHT}
    assert weight_groups(groups) == (WeightGroup("layers", FOUR), WeightGroup("embedding", EIGHT))


def test_matrices_of_one_kind_and_format_go_together() -> None:
    numbers = [10, 2, 0, 1, 27, 11]
    groups = {f"layers.{index}.down_proj": EIGHT for index in numbers}
    groups |= {"layers": FOUR, "layers.4.o_proj": EIGHT, "layers.3.down_proj": FOUR}
    assert weight_groups(groups) == (
        WeightGroup("layers", FOUR),
        WeightGroup("down_proj", EIGHT, "0-2, 10-11, 27"),
        WeightGroup("o_proj", EIGHT, "4"),
        WeightGroup("down_proj", FOUR, "3"),
    )
