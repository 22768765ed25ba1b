"""Profiles: names, files, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from contracts.hub import hub_name
from flows.profiles.loading import (
    BUNDLED,
    available_profiles,
    bundled_profiles,
    changed,
    changed_generator,
    load_profile,
    user_profiles,
)
from flows.settings import CHECKOUT
from prompts import load_lexicon

TEXT = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", bundled_profiles())
def test_bundled_profiles_load_and_lie_in_the_checkout(name) -> None:
    profile = load_profile(name)
    assert profile.name == name
    load_lexicon(profile.modifier.lexicon)
    sections = [profile.defender, profile.selection_scorer, *profile.reporting_scorers]
    assert all(Path(section.path).is_relative_to(CHECKOUT) for section in sections)
    painters = {profile.generator.path, profile.inpainting.path} - {""}
    assert all(hub_name(path) or Path(path).is_relative_to(CHECKOUT) for path in painters)
    scorers = [profile.selection_scorer, *profile.reporting_scorers]
    assert len({section.path for section in scorers}) == len(scorers) > 1


def test_an_inpainter_of_its_own_says_how_it_is_used_best() -> None:
    own = {name: load_profile(name).inpainting for name in bundled_profiles() if name != "tabletop"}
    own = {name: section for name, section in own.items() if section.path}
    assert set(own) == {"sd15", "sdxl", "paper"}
    assert all(section.steps and section.guidance_scale for section in own.values())
    # Its card asks for less than 1 (https://huggingface.co/diffusers/stable-diffusion-xl-1.0-inpainting-0.1).
    assert all(section.strength < 1 for section in own.values() if "xl-1.0-inpainting" in section.path)


def test_the_documentation_has_the_steps_and_guidance_of_every_profile() -> None:
    text = (CHECKOUT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("| `")
    ]
    told = {row[0].strip("`"): (row[2], row[3], row[5]) for row in rows if len(row) == 8}
    assert told.keys() == set(bundled_profiles())
    for name in told.keys() - {"tabletop"}:
        painter, regions = load_profile(name).generator, load_profile(name).inpainting
        guidance = [regions.guidance_scale, painter.guidance_scale]
        there = regions.steps or painter.steps, next(g for g in guidance if g is not None)
        expected = f"{painter.steps}, {painter.guidance_scale:g}", f"{there[0]}, {there[1]:g}"
        assert told[name] == (str(painter.width), *expected)


def test_the_scorer_that_selects_does_not_report() -> None:
    profile = load_profile("tabletop")
    assert profile.reporting_scorers
    assert profile.selection_scorer.path not in {section.path for section in profile.reporting_scorers}


def test_a_file_of_ones_own_has_paths_relative_to_itself(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(TEXT.replace("tabletop/weights/generator", "painter"))
    profile = load_profile(str(tmp_path / "mine.toml"))
    assert profile.name == "mine" and profile.generator.path == str(tmp_path / "painter")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="unknown profile 'tabeltop': did you mean 'tabletop'"):
        load_profile("tabeltop")
    with pytest.raises(InvalidInput, match="known: tabletop"):
        load_profile("qqqq")
    for near, right in [
        ("sdlx", "sdxl"),
        ("flux", "flux-dev"),
        ("sd3.5", "sd35"),
        ("schnell", "flux-schnell"),
    ]:
        with pytest.raises(InvalidInput, match=f"did you mean '{right}'"):
            load_profile(near)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = ", "step = ", "unknown key 'generator.step': did you mean 'steps'"),
        ("max_enlargement = ", "max_enlargment = ", "'inpainting.regions.max_enlargment': did you mean"),
        (
            "[inpainting.regions]",
            "[inpainting.regions]\ntop_k = 0",
            "'inpainting.regions': top_k is 0: choose 1",
        ),
        (
            "[inpainting.gate]",
            "[inpainting.gate]\ncaused = 2",
            "'inpainting.gate': caused 2.0 cannot be used",
        ),
        ('name = "reporter"', 'nane = "reporter"', "'reporting_scorers.0.nane': did you mean 'name'"),
        ("[loop]", "[lop]", "unknown key 'lop': did you mean 'loop'"),
        ('device = "cpu"', 'devise = "cpu"', "unknown key 'devise'"),
        ('device = "cpu"', 'name = "x"', "'name' is not a setting"),
        ("steps = 16", "steps = 0", "generator.steps"),
        ("steps = 16", 'steps = "many"', "generator.steps"),
        ('kind = "legion"', 'kind = "oracle"', "defender.kind"),
        ("[defender]", "[defender", "cannot be read"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, old, new, said) -> None:
    assert old in TEXT
    (tmp_path / "mine.toml").write_text(TEXT.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=said) as caught:
        load_profile(str(tmp_path / "mine.toml"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidInput, match="nowhere.toml does not exist"):
        load_profile("nowhere.toml")


LISTED = """
[[reporting_scorers]]
kind = "hpsv2"
name = "hps"
path = "HPS_v2.1_compressed.pt"
dtype = "bfloat16"
antialias = false

[[reporting_scorers]]
kind = "artifact-area"
name = "clean"
min_confidence = 0.4

[modifier]"""


def test_reporting_scorers_are_a_list_of_kinds_with_their_own_keys(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(TEXT.replace("[modifier]", LISTED, 1))
    _, hps, clean = load_profile(str(tmp_path / "mine.toml")).reporting_scorers
    assert (hps.kind, hps.path) == ("hpsv2", str(tmp_path / "HPS_v2.1_compressed.pt"))
    assert (hps.dtype, hps.antialias, hps.batch_size) == ("bfloat16", False, 32)
    assert (clean.kind, clean.path, clean.min_confidence) == ("artifact-area", "", 0.4)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "hpsv2"', 'kind = "hps"', "'reporting_scorers.1.kind': input should be 'clip'"),
        ('path = "HPS_v2.1_compressed.pt"', "", "'reporting_scorers.1': path is missing"),
        ('kind = "hpsv2"', 'kind = "pickscore"', "antialias is no key of a scorer of kind pickscore"),
        ("min_confidence = 0.4", 'path = "x"', "path is no key of a scorer of kind artifact-area"),
        ('dtype = "bfloat16"', 'dtype = "int8"', "reporting_scorers.1.dtype"),
    ],
)
def test_keys_that_do_not_fit_a_scorer_are_refused(tmp_path, old, new, said) -> None:
    assert old in LISTED
    text = TEXT.replace("[modifier]", LISTED.replace(old, new, 1), 1)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        load_profile(str(tmp_path / "mine.toml"))


def test_options_of_a_command_take_the_place_of_the_defenders_values() -> None:
    section = load_profile("tabletop").defender
    other = changed(section, {"path": "/elsewhere", "tiles": 4, "dtype": "bfloat16"})
    assert (other.path, other.tiles, other.dtype, other.kind) == ("/elsewhere", 4, "bfloat16", "legion")
    assert section.tiles == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tiles": 0}, "--tiles is 0"),
        ({"tile_confidence": 1.5}, "--tile-confidence is 1.5"),
        ({"batch_size": 0}, "--batch-size is 0"),
    ],
)
def test_options_out_of_range_are_named_as_they_were_typed(change, told) -> None:
    with pytest.raises(InvalidInput, match=told):
        changed(load_profile("tabletop").defender, change)


def test_a_persons_own_profile_goes_by_name_and_wins_over_a_bundled_one() -> None:
    user_profiles().mkdir(parents=True)
    (user_profiles() / "mine.toml").write_text(TEXT.replace("tabletop/weights/generator", "painter"))
    (user_profiles() / "sdxl.toml").write_text(TEXT.replace("steps = 16", "steps = 5", 1))
    assert load_profile("mine").generator.path == str(user_profiles() / "painter")
    assert load_profile("sdxl").generator.steps == 5
    assert available_profiles()[0] == "tabletop" and {"mine", "sdxl"} <= set(available_profiles())


def test_a_painter_may_be_named_on_the_hub_and_a_folder_wins(tmp_path) -> None:
    text = TEXT.replace("tabletop/weights/generator", "org/name")
    (tmp_path / "mine.toml").write_text(text)
    assert load_profile(str(tmp_path / "mine.toml")).generator.path == "org/name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert load_profile(str(tmp_path / "mine.toml")).generator.path == str(tmp_path / "org" / "name")


def test_another_checkpoint_keeps_what_is_about_the_machine_alone() -> None:
    profile = load_profile("sdxl")
    other = changed_generator(profile, {"path": "org/name", "steps": 3})
    section = other.generator
    assert (section.path, section.steps, section.guidance_scale, section.width) == ("org/name", 3, None, None)
    assert (section.dtype, section.batch_size, section.variant) == ("float16", 8, "")
    assert profile.inpainting.path and other.inpainting.path == ""
    assert other.inpainting.guidance_scale is None and other.defender == profile.defender
    same = changed_generator(profile, {"steps": 3})
    assert same.generator.path == profile.generator.path and same.inpainting == profile.inpainting
    assert changed_generator(profile, {}) is profile


def test_painting_in_batches_is_a_key_and_stays_with_the_machine(tmp_path) -> None:
    assert load_profile("tabletop").generator.exact is None is load_profile("tabletop").inpainting.exact
    text = TEXT.replace("batch_size = 16", "batch_size = 16\nexact = false").replace(
        "candidates = 4", "candidates = 4\nexact = true"
    )
    (tmp_path / "mine.toml").write_text(text)
    profile = load_profile(str(tmp_path / "mine.toml"))
    assert profile.generator.exact is False and profile.inpainting.exact is True
    assert changed_generator(profile, {"path": "org/name"}).generator.exact is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"width": 1}, "--width is 1"),
        ({"guidance_scale": -1.0}, "--guidance-scale is"),
    ],
)
def test_options_of_a_painter_out_of_range_are_named_as_they_were_typed(change, said) -> None:
    with pytest.raises(InvalidInput, match=said):
        changed_generator(load_profile("tabletop"), change)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('kind = "openai-images"', "model is missing"),
        (
            'kind = "openai-images"\nmodel = "m"\npath = "x"',
            "path is no key of a generator of kind openai-images",
        ),
        ('kind = "diffusers"', "path is missing"),
        ('kind = "diffusers"\npath = "x"\nbase_url = "http://a/v1"', "base_url is no key"),
        ('kind = "diffusers"\npath = "x"\noffload = "disk"', "generator.offload"),
        ('kind = "diffusers"\npath = "x"\nloras = [{file = "x"}]', "generator.loras.0"),
    ],
)
def test_keys_that_do_not_fit_a_painter_are_refused(tmp_path, lines, said) -> None:
    begin, end = TEXT.index("[generator]"), TEXT.index("[defender]")
    (tmp_path / "mine.toml").write_text(f"{TEXT[:begin]}[generator]\n{lines}\n\n{TEXT[end:]}")
    with pytest.raises(InvalidInput, match=said):
        load_profile(str(tmp_path / "mine.toml"))


def test_a_vision_model_has_a_budget_and_legion_has_none() -> None:
    from flows.profiles.loading import DefenderProfile

    section = DefenderProfile(kind="vlm", model="seer", budget={"calls": 9, "usd": 0.5})
    assert (section.budget.calls, section.budget.tokens, section.budget.usd) == (9, None, 0.5)
    with pytest.raises(ValueError, match="budget is no key of a defender of kind legion"):
        DefenderProfile(kind="legion", path="weights", budget={"calls": 9})
