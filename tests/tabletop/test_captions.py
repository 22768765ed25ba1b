"""Wrong captions are wrong in what they say, and in nothing else."""

import numpy as np
import pytest

from tabletop import captions
from tabletop.scenes import (
    ATTRIBUTE_SIZES,
    COLORS,
    SHAPES,
    Scene,
    Solid,
    attributes,
    sample_scene,
    solid_count,
)


def scene(*solids: tuple[str, str]) -> Scene:
    made = tuple(Solid(shape, color, False, 0.0, 0.0, 1.0, 0.0) for color, shape in solids)
    return Scene(made, "grey table", (0.0, 0.0), (0.0, 1.0, 0.0), 0.5)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a orange cone and an red ball", "an orange cone and a red ball"),
        ("an shiny orange cone", "a shiny orange cone"),
        ("a banana stand", "a banana stand"),
    ],
)
def test_articles_follow_the_next_word(given, meant):
    assert captions.with_articles(given) == meant


def test_mismatch_is_another_caption_of_the_grammar():
    rng = np.random.default_rng(1)
    known = set(captions.vocabulary())
    for seed in range(300):
        right = captions.scene_caption(sample_scene(seed, solid_count(seed)))
        wrong = captions.mismatch(sample_scene(seed, solid_count(seed)), right, rng)
        assert wrong != right
        assert set(wrong.split()) <= known
        assert wrong == captions.with_articles(wrong)


def test_mismatch_never_says_the_same_things_in_another_order():
    rng = np.random.default_rng(2)
    twins = scene(("red", "ball"), ("blue", "ball"))
    said = {captions.mismatch(twins, "a red ball and a blue ball on a grey table", rng) for _ in range(300)}
    assert "a blue ball and a red ball on a grey table" not in said
    assert any(text.startswith("a red ball and a blue ") and "blue ball" not in text for text in said)


def test_two_solids_can_have_their_colors_exchanged():
    rng = np.random.default_rng(3)
    pair = scene(("red", "ball"), ("orange", "cube"))
    said = {captions.mismatch(pair, "a red ball and an orange cube on a grey table", rng) for _ in range(300)}
    assert "an orange ball and a red cube on a grey table" in said


def test_attributes_say_none_for_a_missing_second_solid():
    one = attributes(scene(("green", "cone")))
    two = attributes(scene(("green", "cone"), ("blue", "ring")))
    assert one == (SHAPES.index("cone"), COLORS.index("green"), 2, len(SHAPES), len(COLORS))
    assert two == (*one[:3], SHAPES.index("ring"), COLORS.index("blue"))
    assert all(0 <= value < size for value, size in zip(one, ATTRIBUTE_SIZES, strict=True))


def test_a_third_of_the_scenes_hold_two_solids():
    counts = [solid_count(seed) for seed in range(2_000)]
    assert set(counts) == {1, 2}
    assert 0.27 < np.mean(np.array(counts) == 2) < 0.33
