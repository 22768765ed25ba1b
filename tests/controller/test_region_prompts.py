import numpy as np
import pytest
from region_samples import finding, rectangle

from contracts.errors import ModelError
from contracts.records import Revision
from controller.modifiers import RuleBasedModifier
from controller.region_prompts import described_scene, region_prompts
from controller.regions import PaintingSize, RegionSettings, plan_regions
from prompts.lexicon import load_lexicon

SHAPE = (40, 40)
SCENE = "a red cone on a wooden table"
MODIFIER = RuleBasedModifier(load_lexicon("tabletop"))


def flaw(category="physics", phrase="the shadow", confidence=0.9, left=4):
    return finding(rectangle(SHAPE, left, 10, left + 8, 18), confidence, phrase, category)


def region(*findings):
    mask = None if findings else rectangle(SHAPE, 4, 4, 12, 12)
    return plan_regions(findings, SHAPE, RegionSettings(), PaintingSize(16, 16), user_mask=mask).regions[0]


def test_each_region_is_told_what_should_be_seen_there_and_never_the_flaw():
    regions = [region(flaw()), region(flaw("structure", "the cone"))]
    made = region_prompts([SCENE, SCENE], regions, MODIFIER)
    assert [r.prompt for r in made] == [f"{SCENE}, natural shadow", f"{SCENE}, perfect shape"]
    assert not any("toward the light" in r.prompt for r in made)


def test_merged_findings_are_answered_together():
    made = region_prompts([SCENE], [region(flaw(), flaw("distortion", "the surface"))], MODIFIER)
    assert made[0].prompt == f"{SCENE}, natural shadow, clean surface"


def test_an_area_without_findings_gets_the_scene_alone():
    assert region_prompts([SCENE], [region()], MODIFIER)[0].prompt == SCENE


def test_a_second_try_builds_on_the_first():
    class Recorder:
        name = "recorder"

        def revise(self, requests):
            self.requests = list(requests)
            return [Revision("p") for _ in requests]

        def describe(self):
            return {}

    recorder = Recorder()
    region_prompts([SCENE, "b"], [region(flaw())] * 2, recorder, [["one", "two"], []])
    first, second = recorder.requests
    assert (first.user_prompt, first.current_prompt, first.earlier_prompts) == (SCENE, "two", ("one", "two"))
    assert (second.user_prompt, second.current_prompt, second.earlier_prompts) == ("b", "b", ())


def test_quality_words_follow_the_scene_of_every_region():
    made = region_prompts([SCENE] * 2, [region(flaw()), region()], MODIFIER, quality="fine detail")
    assert [r.prompt for r in made] == [f"{SCENE}, fine detail, natural shadow", f"{SCENE}, fine detail"]


def test_scenes_and_regions_belong_together():
    with pytest.raises(ValueError):
        region_prompts([SCENE], [], MODIFIER)


@pytest.mark.parametrize(
    ("phrase", "scene"),
    [
        ("The shadow of the red cone.", "a photo of a red cone"),
        ("the orange ring", "a photo of an orange ring"),
        ("the edges of the wooden steps", "a photo of wooden steps"),
        ("the handle of a cup of tea", "a photo of a cup of tea"),
        ("a cup of tea", "a photo of a cup of tea"),
        ("the glass", "a photo of a glass"),
        ("the", "a photo of the"),
        ("the woman's left hand", "a photo of a woman's left hand"),
        ("die rechte Hand", "a photo of die rechte Hand"),
        ("the distorted hand", "a photo"),
        ("the missing shadow", "a photo"),
        ("a hand with an extra finger", "a photo"),
        ("the grainy wall", "a photo"),
        ("the hand on the table next to the cup of tea", "a photo"),
        ("ignore this: <b>write</b>", "a photo"),
        ("", "a photo"),
    ],
)
def test_without_a_prompt_the_scene_is_the_name_of_the_flawed_thing(phrase, scene):
    assert described_scene([flaw(phrase=phrase)]) == scene


def test_without_a_prompt_the_scene_names_all_that_is_flawed_the_worst_first():
    found = [
        flaw(phrase="the shadow of the blue cube", confidence=0.4),
        flaw(phrase="the cone", confidence=0.8),
    ]
    scene = "a photo of a cone and a blue cube"
    assert described_scene(found) == scene
    assert described_scene([*found, flaw(phrase="the base of the cone", confidence=0.1)]) == scene, (
        "named once"
    )
    assert described_scene([*found, flaw(phrase="a deformed cone", confidence=1.0)]) == scene
    many = [flaw(phrase=f"the {thing}") for thing in ("cone", "cube", "ring", "ball")]
    assert described_scene(many) == "a photo of a cone and a cube and a ring"
    assert described_scene([]) == "a photo"
    with pytest.raises(ModelError):
        described_scene([flaw(confidence=np.nan)])
