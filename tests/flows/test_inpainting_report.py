"""The page about repaired pictures, and the map beside it: one color per place, each number once."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from red_squares import picture, square_tools

from contracts.records import Run, Score
from controller.compositing import Source
from controller.inpainting import InpaintingCase, InpaintingSettings, inpaint
from flows.files import inpainting_output
from flows.files.inpainting_output import write_repair
from flows.files.picture_files import read_picture
from flows.files.pictures import color_of, web_color
from flows.files.region_colors import layer_colors, region_colors
from flows.pages.inpainting_report import Named, render_repair_report
from memory_bank import SqlMemoryBank, open_memory_bank

SQUARES = ((2, 2, 7, 7), (20, 20, 26, 26))


@pytest.fixture
def bank() -> SqlMemoryBank:
    return open_memory_bank()


def repaired(bank: SqlMemoryBank, image: np.ndarray, **settings) -> Run:
    """The run that paints over the image's red squares."""
    wanted = InpaintingSettings(candidates=2, **settings)
    (run,) = inpaint(
        [InpaintingCase(f"wall-{image.sum()}", image, "a gray wall")], square_tools(), bank, wanted
    )
    return run


def page(bank: SqlMemoryBank, run: Run) -> str:
    return render_repair_report([Named(run, "wall.png")], bank.image, versions={})


def shown_at(page: str, alternative: str) -> np.ndarray:
    """The pixels of the page's picture that has this alternative text."""
    found = re.search(rf'<img src="data:image/webp;base64,([^"]+)"[^>]*alt="{alternative}"', page)
    assert found is not None
    return np.array(Pillow.open(io.BytesIO(b64decode(found.group(1)))).convert("RGB"), int)


def wall(*squares, height: int = 32, width: int = 32) -> np.ndarray:
    return np.ascontiguousarray(picture(*squares, side=max(height, width))[:height, :width])


def written(bank: SqlMemoryBank, run: Run, folder: Path) -> tuple[Pillow.Image, dict]:
    """The source map's file and its legend."""
    Pillow.fromarray(bank.image(run.rounds[0].image or "")).save(folder / "wall.png")
    values = write_repair(run, read_picture(folder / "wall.png"), bank, folder, "wall")
    return Pillow.open(values["sources_map"]), json.loads(Path(values["sources"]).read_text())


def test_a_region_has_one_color_in_all_pictures(bank) -> None:
    text = page(bank, repaired(bank, wall(*SQUARES)))
    for number in (1, 2):
        assert f'style="background:{web_color(number)}">{number}</span>' in text
    red, _, blue = np.moveaxis(shown_at(text, "Region 2 before"), -1, 0)
    assert (blue > red + 40).sum() > 100, "region 2 is not outlined in blue"
    red, _, blue = np.moveaxis(shown_at(text, "Region 1 before"), -1, 0)
    assert not (blue > red + 40).any()
    assert re.findall(r'swatch" style="background:(#\w+)"', text) == [web_color(1), web_color(2)]


def test_a_place_that_is_tried_again_keeps_its_color_whatever_its_number(bank) -> None:
    run = repaired(bank, wall(*SQUARES))
    first = run.rounds[0]
    assert first.repairs is not None and len(first.repairs) == 2
    again = replace(first, index=2, repairs=first.repairs[1:])
    colors = region_colors(replace(run, rounds=(first, again)))
    assert colors == {(1, 1): 1, (1, 2): 2, (2, 1): 2}
    legend = [Source(round, region, 1, 0, "", "") for round, region in colors]
    assert layer_colors(legend, colors) == [1, 2, 3], "a layer's color is its own"


def test_the_colors_of_a_palette_are_all_different() -> None:
    colors = [color_of(number) for number in range(1, 256)]
    assert len(set(colors)) == 255 and min(max(color) for color in colors) > 100


def test_the_source_map_shows_its_layers_in_color_and_counts_them_in_its_indexes(bank, tmp_path) -> None:
    sources, legend = written(bank, repaired(bank, wall(*SQUARES)), tmp_path)
    layers, seen = np.array(sources), np.array(sources.convert("RGB"))
    assert set(np.unique(layers)) == {0, 1, 2} and not seen[layers == 0].any()
    assert legend["original_color"] == "#000000" and legend["values"] == "palette indexes"
    for entry in legend["layers"]:
        mine = layers == entry["layer"]
        assert mine.sum() == entry["pixels"] > 0
        assert {"#" + bytes(color).hex() for color in seen[mine]} == {entry["color"]}


def test_an_untouched_picture_has_a_black_map(bank, tmp_path) -> None:
    sources, legend = written(bank, repaired(bank, wall()), tmp_path)
    assert not np.array(sources).any() and not np.array(sources.convert("RGB")).any()
    assert legend["layers"] == []


def test_more_sources_than_a_palette_holds_keep_16_bits(bank, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(inpainting_output, "PALETTE", 2)
    sources, legend = written(bank, repaired(bank, wall(*SQUARES)), tmp_path)
    assert sources.mode == "I;16" and set(np.unique(np.array(sources))) == {0, 1, 2}
    assert legend["values"].startswith("16-bit") and "color" not in legend["layers"][0]


def test_a_caption_says_each_number_once(bank) -> None:
    run = repaired(bank, wall(SQUARES[0]))
    first = run.rounds[0]
    (repair,) = first.repairs or ()
    told = replace(
        repair.candidates[0],
        seed=5308641783020136960,
        scores=(Score("taste", "1", 0.3005), Score("report", "1", 0.5)),
        seam=32.1,
        reason="rolled back: taste fell to 0.3005 from 0.5841",
    )
    edge = replace(told, reason="rolled back: its edge shows (a step of 32.1 levels after 2.7)")
    repair = replace(repair, candidates=(told, edge))
    text = page(bank, replace(run, rounds=(replace(first, repairs=(repair,)),)))
    one, two = re.findall(r"<b>candidate \d</b>(.*?)</figcaption>", text)
    assert (
        one.count("0.3005") == 1 and "taste 0.3" not in one and "report 0.500" in one and "seam 32.1" in one
    )
    assert two.count("32.1") == 1 and "taste 0.300" in two and "seam" not in two
    assert '<span class="seed">seed <b>5308641783020136960</b></span>' in one


def test_a_panorama_is_shown_one_above_the_other_and_its_regions_close_up(bank) -> None:
    text = page(bank, repaired(bank, wall((100, 6, 106, 12), height=24, width=240)))
    assert '<div class="card hero repair wide">' in text and '<div class="maps wide">' in text
    before = shown_at(text, "Region 1 before")
    assert min(before.shape[:2]) > 150, "the region and what is around it, not the whole strip"
    assert 'hero repair wide"' not in page(bank, repaired(bank, wall(SQUARES[0])))


def test_a_tall_picture_is_not_as_wide_as_its_column(bank) -> None:
    assert 'class="stage" style="max-width:63px"' in page(bank, repaired(bank, wall(height=240, width=24)))


def test_a_region_that_was_painted_small_says_so(bank) -> None:
    assert "of its size" not in page(bank, repaired(bank, wall(SQUARES[0])))
    run = repaired(bank, wall(SQUARES[0]))
    first = run.rounds[0]
    (repair,) = first.repairs or ()
    left, top, right, bottom = repair.plan.crop
    small = ((right - left) // 2, (bottom - top) // 2)
    coarse = replace(repair, plan=replace(repair.plan, target=small), candidates=(), chosen=None)
    text = page(bank, replace(run, rounds=(replace(first, repairs=(coarse,)),)))
    assert re.search(r">painted at 0\.[45]\d of its size</span>", text)


def test_a_run_without_a_finished_round_has_no_after(bank) -> None:
    run = repaired(bank, wall(SQUARES[0]))
    assert "<b>After</b>" in page(bank, run)
    (repair,) = run.rounds[0].repairs or ()
    painted = tuple(replace(x, accepted=None, reason="") for x in repair.candidates)
    waiting = replace(repair, candidates=painted, accepted=None, chosen=None, picture=None)
    open_round = replace(run.rounds[0], verdict=None, repairs=(waiting,))
    text = page(bank, replace(run, rounds=(open_round,), status="interrupted"))
    assert "<b>So far</b> · unchanged" in text and "<b>After</b>" not in text
    assert "<b>candidate 1</b> · not judged yet" in text and "rolled back<" not in text
