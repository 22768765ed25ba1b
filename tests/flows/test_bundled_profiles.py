"""Every bundled profile from the command line to the pictures, as it stands: own steps, guidance and gate.

Only what no test machine has is replaced: checkpoints by small random ones of the same families in the same
layout, sizes by 64 pixels, the GPU by the CPU in float32, LEGION and the scorers by the bundled ones.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image as Pillow

from flows.cli import main
from flows.profiles.loading import BUNDLED, load_profile
from flows.settings import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

FAMILY = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
    "stable-diffusion-v1-5/stable-diffusion-inpainting": "sd15-inpainting",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "sdxl-inpainting",
    "stabilityai/sdxl-turbo": "sdxl-turbo",
    "stabilityai/stable-diffusion-3.5-medium": "sd3",
    "black-forest-labs/FLUX.1-dev": "flux",
    "black-forest-labs/FLUX.1-schnell": "flux-schnell",
    "black-forest-labs/FLUX.1-Fill-dev": "flux-fill",
}
PIPELINES = {
    "sd15": ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"),
    "sdxl": ("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
    "sdxl-turbo": ("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
    "sd35": ("StableDiffusion3Pipeline", "StableDiffusion3InpaintPipeline"),
    "flux-dev": ("FluxPipeline", "FluxInpaintPipeline"),
    "flux-schnell": ("FluxPipeline", "FluxInpaintPipeline"),
    "flux-fill": ("FluxFillPipeline", "FluxFillPipeline"),
    "paper": ("StableDiffusion3Pipeline", "StableDiffusionXLInpaintPipeline"),
}
PROMPT = "a red cone on a wooden table"
SIDE = 64


@pytest.fixture(autouse=True)
def own_tools():
    """What earlier tests loaded is put away."""
    from flows import assemble

    for cached in (
        assemble.regeneration_tools,
        assemble.inpainting_tools,
        assemble.scorers,
        assemble.defender,
    ):
        cached.cache_clear()
    assemble.SHELF.put_away_others(None)
    return assemble


def sections(name):
    """A bundled profile's text as (header, text) pairs, in order; what stands before the first has none."""
    parts = re.split(
        r"^(\[.*\])$", (BUNDLED / f"{name}.toml").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]


def small(name, root):
    """The profile with what this machine has; the path of its file."""
    from tiny_families import save_family

    weights = f'"{CHECKOUT.as_posix()}/tabletop/weights'
    ours = {head: text.replace('"tabletop/weights', weights) for head, text in sections("tabletop")}
    ours["[modifier]"] = '\nkind = "rules"\nlexicon = "general"\n\n'
    replaced = ("[defender]", "[selection_scorer]", "[[reporting_scorers]]", "[modifier]")
    made, seen = [], set()
    for head, text in sections(name):
        if head in replaced:
            if head not in seen:
                made.append(head + ours[head])
            seen.add(head)
            continue
        text = re.sub(r"^(width|height) = \d+$", rf"\1 = {SIDE}", text, flags=re.MULTILINE)
        text = text.replace('device = "auto"', 'device = "cpu"')
        text = re.sub(r'^dtype = "\w+"$', 'dtype = "float32"', text, flags=re.MULTILINE)
        if asked := re.search(r'^path = "(.+)"$', text, re.MULTILINE):
            variant = re.search(r'^variant = "(.+)"$', text, re.MULTILINE)
            family = FAMILY[asked[1]]
            folder = save_family(family, root / family, variant[1] if variant else "")
            text = text.replace(f'"{asked[1]}"', f'"{folder.as_posix()}"')
        made.append(head + text)
    path = root / f"small-{name}.toml"
    path.write_text("".join(made), encoding="utf-8")
    return str(path)


def said(capsys, *words):
    """The command's one run, as JSON."""
    code = main([*map(str, words), "--json", "--no-prefect"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)["runs"][0], captured.err


def clean_picture():
    """A rendered scene without a flaw: whatever random weights paint over it is worse."""
    from tabletop.flaws import render_pair

    return render_pair(10_950_003).clean


@pytest.mark.parametrize("name", PIPELINES)
def test_a_bundled_profile_paints_and_repairs_as_it_says(name, tmp_path, own_tools, capsys):
    profile, real = small(name, tmp_path), load_profile(name)
    options = ("--profile", profile, "--seed", 3)
    run, log = said(capsys, "regenerate", PROMPT, *options, "--rounds", 1, "--out", tmp_path / "made")
    painted = np.asarray(Pillow.open(run["rounds"][0]["image"]))
    assert painted.shape == (SIDE, SIDE, 3) and painted.std() > 1
    assert "it is left out" not in log  # every key of the profile is one that its pipeline takes

    before, mask = clean_picture(), np.zeros((SIDE, SIDE), np.uint8)
    mask[20:44, 16:48] = 255
    Pillow.fromarray(before).save(tmp_path / "picture.png")
    Pillow.fromarray(mask).save(tmp_path / "mask.png")
    repair, log = said(
        capsys, "inpaint", tmp_path / "picture.png", "--mask", tmp_path / "mask.png", "--prompt", PROMPT,
        *options, "--out", tmp_path / "repaired",
    )  # fmt: skip
    assert "it is left out" not in log
    tries = [region for item in repair["rounds"] for region in item["regions"]]
    assert tries and all(len(region["candidates"]) == real.inpainting.candidates for region in tries)
    assert all(not region["accepted"] and region["reason"] for region in tries)
    assert all(candidate["reason"] for region in tries for candidate in region["candidates"])
    assert np.array_equal(np.asarray(Pillow.open(repair["output"]).convert("RGB")), before)

    painter = own_tools.regeneration_tools(profile).generator.describe()
    inpainter = own_tools.inpainting_tools(profile).inpainter.describe()
    assert (painter["pipeline"], inpainter["pipeline"]) == PIPELINES[name]
    regions, generator = real.inpainting, real.generator
    assert painter["num_inference_steps"] == generator.steps
    assert painter["guidance_scale"] == generator.guidance_scale
    assert inpainter["num_inference_steps"] == (regions.steps or generator.steps)
    own = regions.guidance_scale
    assert inpainter["guidance_scale"] == (generator.guidance_scale if own is None else own)
    assert painter["dtype"] == inpainter["dtype"] == "float32"


def test_every_bundled_profile_is_among_them():
    from flows.profiles.loading import bundled_profiles

    assert {*PIPELINES, "tabletop"} == set(bundled_profiles())
