"""`legion inpaint` from end to end, with scripted tools in the world of red squares."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from red_squares import assemble, flawed, picture, square_tools

from contracts.errors import InvalidInput
from contracts.records import Usage
from flows.cli import main
from flows.jobs.inpainting import InpaintingJob, make_job, requests_for, unique_stems
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank
from memory_bank.store import pixel_digest

SQUARES = ((4, 4, 8, 8), (20, 20, 26, 25))
PLAIN = ["--no-prefect", "--dilate", "1", "--feather", "1", "--candidates", "2"]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """`flows.assemble` hands out scripted tools, and the current folder is an empty one."""
    made = square_tools()
    assemble(monkeypatch, made)
    monkeypatch.chdir(tmp_path)
    return made


def saved(name, *squares, **options):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture(*squares)).save(path, **options)
    return str(path)


def marked(name, first, last, size=(32, 32)):
    """A mask file with a white square from `first` to `last`."""
    mask = np.zeros(size, np.uint8)
    mask[first:last, first:last] = 255
    Pillow.fromarray(mask).save(name)
    return name


def run_json(capsys, *words, code=0):
    assert main(["inpaint", *words, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def pixels(path):
    return np.array(Pillow.open(path))


def test_json_is_the_one_object_of_its_contract(tools, capsys):
    name = saved("wall.png", *SQUARES)
    (run,) = run_json(capsys, name, "--prompt", "a gray wall", *PLAIN)["runs"]
    assert {"run_id", "input", "output", "support", "rounds", "report"} <= set(run)
    assert Path(run["input"]) == Path(name).resolve() and run["output"].endswith("wall-repaired.png")
    before, after, support = pixels(run["input"]), pixels(run["output"]), pixels(run["support"])
    assert support.dtype == np.uint8 and set(np.unique(support)) == {0, 255}
    assert np.array_equal(before[support == 0], after[support == 0])
    assert flawed(before).any() and not flawed(after).any()
    (first,) = run["rounds"]
    assert first["accepted"] and first["stop"] == "no artifacts found" and len(first["outside"]) == 64
    region = first["regions"][0]
    assert region["accepted"] and region["prompt"].startswith("a gray wall") and region["chosen"] == 1
    assert region["findings"][0]["phrase"] == "the square"
    assert len(region["candidates"]) == 2 and region["candidates"][0]["seed"] > 0
    assert Path(run["report"]).read_text().startswith("<!doctype html>")


def test_every_file_is_kept_and_a_lossy_result_is_known_by_its_bytes(tools, capsys):
    (run,) = run_json(capsys, saved("wall.png", *SQUARES), *PLAIN, "--format", "jpeg", "--out", "here")[
        "runs"
    ]
    kept = {file.place: file.kind for file in open_memory_bank().artifacts(run["run_id"])}
    assert set(kept) == {str(path) for path in Path("here").resolve().rglob("*") if path.is_file()}
    assert kept[run["output"]] == "result" and "painting" in kept.values()
    calls = {cost["part"]: cost["calls"] for cost in run["costs"]}
    assert calls == {"defender": 5, "scorer": 5, "inpainter": 4}, "once as it came, then each candidate"
    assert main(["show", run["output"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["places"] == [] and found["written"][0]["kind"] == "result"


def test_a_vision_model_is_paid_once_for_each_look(tools, capsys, monkeypatch):
    tools.inpainter.failures = 256  # nothing is repaired, and tried again
    diagnose = tools.defender.diagnose
    monkeypatch.setattr(
        tools.defender,
        "diagnose",
        lambda images: [replace(found, usage=Usage(1, 100, 10, 0.5)) for found in diagnose(images)],
    )
    (run,) = run_json(capsys, saved("wall.png", *SQUARES), *PLAIN, "--rounds", "2")["runs"]
    assert len(run["rounds"]) == 2, "the second begins with what was seen in the first"
    looks = len(tools.defender.seen)
    (cost,) = [cost for cost in run["costs"] if cost["part"] == "defender"]
    assert (cost["calls"], cost["input_tokens"], cost["usd"]) == (looks, 100 * looks, 0.5 * looks)


def test_the_source_map_lies_beside_the_result(tools, capsys):
    (run,) = run_json(capsys, saved("wall.png", *SQUARES), *PLAIN)["runs"]
    legend = json.loads(Path(run["sources"]).read_text())
    layers = pixels(Path(run["sources"]).with_name(legend["map"]))
    assert layers.shape == (32, 32) and set(np.unique(layers)) == {0, 1, 2}
    changed = (pixels(run["input"]) != pixels(run["output"])).any(-1)
    assert not (changed & (layers == 0)).any()
    seeds = [c["seed"] for region in run["rounds"][0]["regions"] for c in region["candidates"]]
    assert {entry["seed"] for entry in legend["layers"]} <= set(seeds)
    assert legend["layers"][0]["model"] == "gray painter" and legend["layers"][0]["round"] == 1


def test_a_person_sees_a_table_the_result_and_the_report(tools, capsys):
    assert main(["inpaint", saved("wall.png", *SQUARES), *PLAIN, "--run-id", "one"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.rstrip("\n").split("\n")
    assert re.search(
        r"2 repairs \(no artifacts left\)\. Allowed to change: \d+ of 1,024 pixels", captured.out
    )
    assert lines[-2].startswith("result: ") and Path(lines[-2].removeprefix("result: ")).is_file()
    assert lines[-1].startswith("report: ") and "paint · round 1 · 4 regions" in captured.err


def test_a_clean_picture_is_left_as_it_is_and_says_so(tools, capsys):
    assert main(["inpaint", saved("clean.png"), *PLAIN]) == 0
    assert "Left as it is (no artifacts found)." in capsys.readouterr().out
    (out,) = Path("out").glob("*/clean-repaired.png")
    assert np.array_equal(pixels("clean.png"), pixels(out)) and tools.inpainter.seen == []


def test_a_dry_run_prints_the_plan_and_paints_nothing(tools, capsys):
    name = saved("wall.png", *SQUARES)
    assert main(["inpaint", name, *PLAIN, "--dry-run", "--out", "plan"]) == 0
    out = capsys.readouterr().out
    assert ": the square" in out and "a photo of a square" in out and "overlay: " in out
    assert tools.inpainter.seen == [] and Path("plan/wall-plan.png").is_file()
    (plan,) = run_json(capsys, name, *PLAIN, "--dry-run", "--out", "plan")["runs"]
    assert len(plan["regions"]) == 2 and Path(plan["overlay"]).is_file()
    assert all(region["prompt"].startswith("a photo of a square, ") for region in plan["regions"])
    assert (pixels(plan["support"]) > 0).sum() == sum(region["pixels"] for region in plan["regions"])
    assert main(["runs"]) == 0 and "no runs yet" in capsys.readouterr().out


def test_a_dry_run_names_in_its_json_what_a_run_would(tools, capsys):
    saved("in/a.png", *SQUARES)
    saved("in/b.gif", *SQUARES, save_all=True, append_images=[Pillow.fromarray(picture(seed=4))])
    Path("in/c.png").write_text("no picture")
    plan = run_json(capsys, "in", *PLAIN, "--dry-run", code=1)
    done = run_json(capsys, "in", *PLAIN, code=1)
    assert plan["failed"] == done["failed"] and len(plan["failed"]) == 1
    assert plan["runs"][0]["notes"] == done["runs"][0]["notes"] == []
    assert plan["runs"][1]["notes"] == [x for x in done["runs"][1]["notes"] if "frames" in x] != []


def test_a_run_without_a_prompt_is_listed_by_what_the_defender_saw(tools, capsys):
    assert main(["inpaint", saved("wall.png", *SQUARES), *PLAIN, "--run-id", "unnamed"]) == 0
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["prompt"], row["scene"]) == ("", "a photo of a square")
    assert main(["runs"]) == 0 and "a photo of a square" in capsys.readouterr().out
    for file in Path(os.environ["LEGION_HOME"]).rglob("*.png"):
        file.unlink()
    assert main(["runs"]) == 0 and "a photo of a square" in capsys.readouterr().out, "no file is read for it"


def test_an_export_holds_every_mask_that_was_kept(tools, capsys, tmp_path):
    assert main(["inpaint", saved("wall.png", *SQUARES), *PLAIN, "--run-id", "all", "--top-k", "1"]) == 0
    assert main(["export", "all", "everything"]) == 0
    kept = {path.stem for path in Path(os.environ["LEGION_HOME"]).rglob("masks/*/*.png")}
    exported = {pixel_digest("mask", pixels(path) > 0) for path in Path("everything").glob("*.png")}
    assert kept and kept <= exported


def test_a_mask_and_a_protected_area_are_obeyed(tools, capsys):
    name, mask, guard = (
        saved("wall.png", *SQUARES),
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32), np.uint8),
    )
    mask[2:12, 2:12], guard[:6] = 255, 255
    Pillow.fromarray(mask).save("mask.png")
    Pillow.fromarray(guard).save("guard.png")
    (run,) = run_json(capsys, name, "--mask", "mask.png", "--protect", "guard.png", *PLAIN)["runs"]
    assert np.array_equal(pixels(run["support"]) > 0, (mask > 0) & (guard == 0))
    changed = (pixels(run["input"]) != pixels(run["output"])).any(-1)
    assert changed.any() and not changed[:6].any() and not changed[:, 12:].any()


def test_a_protected_area_without_white_protects_nothing_and_says_so_once(tools, capsys):
    saved("in/a.png", *SQUARES)
    saved("in/b.png", *SQUARES)
    empty = marked("empty.png", 0, 0)
    assert main(["inpaint", "in", *PLAIN, "--protect", empty, "--run-id", "with"]) == 0
    (told,) = captured_notes(capsys)
    assert told.startswith("note: the protected area ") and "protects nothing" in told
    (run,) = run_json(capsys, "in/a.png", *PLAIN, "--run-id", "with-1")["runs"]
    assert not flawed(pixels(run["output"])).any(), "and it is the run that it would be without"


def test_a_mask_of_many_parts_says_how_many_paintings_they_take(tools, capsys):
    dots = np.zeros((32, 32), np.uint8)
    dots[2::6, 2::6] = 255
    Pillow.fromarray(dots).save("dots.png")
    name = saved("wall.png", *SQUARES)
    words = [name, "--mask", "dots.png", *PLAIN, "--top-k", "3", "--dry-run"]
    (plan,) = run_json(capsys, *words)["runs"]
    assert len(plan["regions"]) == 25
    assert main(["inpaint", *words]) == 0
    (told,) = captured_notes(capsys)
    assert "has 25 parts, and each is painted by itself: 50 paintings in the first round" in told
    assert main(["inpaint", *words, "--protect", marked("half.png", 0, 26)]) == 0
    assert captured_notes(capsys) == []


def test_a_folder_goes_on_past_what_cannot_be_read(tools, capsys):
    saved("in/a.png", *SQUARES)
    saved("in/b.jpg", quality=95)
    Path("in/c.png").write_text("no picture")
    Path("in/notes.txt").write_text("not asked for")
    done = run_json(capsys, "in", *PLAIN, "--out", "here", code=1)
    assert [Path(run["input"]).name for run in done["runs"]] == ["a.png", "b.jpg"]
    assert [Path(item["input"]).name for item in done["failed"]] == ["c.png"]
    assert Path("here/a-repaired.png").is_file() and Path("here/b-repaired.png").is_file()
    main(["inpaint", "in", *PLAIN, "--out", "here"])
    captured = capsys.readouterr()
    assert "error: 1 of 3 pictures could not be used: c.png" in captured.err.rstrip().split("\n")[-1]
    assert "left out: " in captured.err and "report: " in captured.out


def test_what_the_format_cannot_hold_is_found_before_anything_is_painted(tools, capsys):
    saved("in/a.png", *SQUARES)
    layers = np.dstack([picture(*SQUARES), np.full((32, 32), 255, np.uint8)])
    layers[:10, :10, 3] = 0
    Pillow.fromarray(layers).save("in/b-clear.png")
    saved("in/c.png", SQUARES[0])
    done = run_json(capsys, "in", *PLAIN, "--format", "jpeg", "--out", "here", code=1)
    assert [Path(run["output"]).name for run in done["runs"]] == ["a-repaired.jpg", "c-repaired.jpg"]
    (failed,) = done["failed"]
    assert "b-clear.png" in failed["input"] and "choose --format png" in failed["reason"]
    assert Path("here/report.html").is_file()
    calls = len(tools.inpainter.requests)
    assert "JPEG cannot keep" in fails(capsys, "in/b-clear.png", *PLAIN, "--format", "jpeg")
    assert len(tools.inpainter.requests) == calls


def test_what_a_result_loses_is_a_note_and_in_the_json(tools, capsys):
    gray = Pillow.fromarray(picture()[..., 0])
    gray.save("gray.png")
    (run,) = run_json(capsys, "gray.png", *PLAIN)["runs"]
    assert run["notes"] == [] and Pillow.open(run["output"]).mode == "L"
    first, second = Pillow.fromarray(picture(*SQUARES)), Pillow.fromarray(picture(seed=4))
    first.save("moving.gif", save_all=True, append_images=[second])
    assert main(["inpaint", "moving.gif", *PLAIN]) == 0
    assert captured_notes(capsys)[0].endswith("the first is repaired, and the result has no other")
    main(["inpaint", "moving.gif", *PLAIN, "--dry-run"])
    assert len(captured_notes(capsys)) == 1


def test_the_report_claims_of_a_jpeg_no_more_than_is_true(tools, capsys):
    info = PngInfo()
    info.add_text("parameters", "<a red cone>")
    name = saved("wall.png", *SQUARES, pnginfo=info)
    (run,) = run_json(capsys, name, *PLAIN, "--out", "png")["runs"]
    page = Path(run["report"]).read_text()
    assert "bit for bit; their digest" in page and ">note: " not in page and run["notes"] == []
    assert main(["inpaint", name, *PLAIN, "--format", "jpeg", "--out", "jpg"]) == 0
    told = captured_notes(capsys)
    (run,) = run_json(capsys, name, *PLAIN, "--format", "jpeg", "--out", "jpg")["runs"]
    assert told == [f"note: {line}" for line in run["notes"]] and len(told) == 2
    assert "text notes (parameters)" in told[0] and "before compression, not of the jpeg file" in told[1]
    page = Path(run["report"]).read_text()
    assert "bit for bit, before JPEG compression and not in the file; their digest" in page
    shown = [line.replace(run["input"], "wall.png") for line in told]
    assert all(line in page for line in shown), "by the picture's name alone, as elsewhere on the page"


def captured_notes(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


def test_lines_of_a_file_name_pictures_prompts_and_masks(tools, capsys):
    saved("in/a.png", *SQUARES)
    saved("in/b.png", SQUARES[0])
    mask = np.zeros((32, 32), np.uint8)
    mask[2:12, 2:12] = 255
    Pillow.fromarray(mask).save("in/m.png")
    lines = [{"image": "a.png", "prompt": "one wall", "mask": "m.png"}, {"image": "b.png", "seed": 5}]
    Path("in/list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    first, second = run_json(capsys, "in/list.jsonl", "--prompt", "a wall", *PLAIN)["runs"]
    assert (first["prompt"], second["prompt"]) == ("one wall", "a wall")
    assert np.array_equal(pixels(first["support"]), mask)
    assert first["rounds"][0]["left_out"][0]["reason"] == "outside the mask"


def test_a_picture_gives_the_same_result_alone_and_in_a_folder(tools, capsys):
    saved("in/a.png", SQUARES[0])
    saved("in/b.png", *SQUARES)
    tools.inpainter.failures = 128
    (alone,) = run_json(capsys, "in/b.png", *PLAIN)["runs"]
    _, together = run_json(capsys, "in", *PLAIN)["runs"]
    assert np.array_equal(pixels(alone["output"]), pixels(together["output"]))


def test_the_result_keeps_transparency_and_may_be_webp(tools, capsys):
    layers = np.dstack([picture(*SQUARES), np.full((32, 32), 255, np.uint8)])
    layers[:10, :10, 3] = 0
    Pillow.fromarray(layers).save("cut.png")
    (run,) = run_json(capsys, "cut.png", "--format", "webp", *PLAIN)["runs"]
    after, support = pixels(run["output"]), pixels(run["support"])
    assert run["output"].endswith(".webp") and after.shape == (32, 32, 4)
    assert np.array_equal(after[support == 0], layers[support == 0])
    assert np.array_equal(after[..., 3], layers[..., 3]) and not support[:10, :10].any()


def test_the_same_id_goes_on_and_shows_the_same(tools, capsys):
    name = saved("wall.png", *SQUARES)
    (first,) = run_json(capsys, name, *PLAIN, "--run-id", "again")["runs"]
    seen = len(tools.inpainter.seen)
    (second,) = run_json(capsys, name, *PLAIN, "--run-id", "again")["runs"]
    assert second["rounds"] == first["rounds"] and len(tools.inpainter.seen) == seen
    saved("wall.png", SQUARES[0])
    assert main(["inpaint", name, *PLAIN, "--run-id", "again"]) == 1
    began = "error: run again began with another picture, which cannot be changed: use another run id\n"
    assert capsys.readouterr().err.endswith(began)
    assert main(["inpaint", name, *PLAIN, "--run-id", "again", "--accept-changes"]) == 1
    assert capsys.readouterr().err.endswith(began), "no way out is named that is then closed"


def test_a_run_with_another_mask_or_protected_area_is_another_run(tools, capsys):
    name = saved("wall.png", *SQUARES)
    first, second = marked("first.png", 2, 12), marked("second.png", 2, 13)
    run_json(capsys, name, *PLAIN, "--run-id", "again", "--mask", first)
    words = ["--mask", second, "--protect", first, "--run-id", "again"]
    assert main(["inpaint", name, *PLAIN, *words]) == 1
    assert "run again began with another mask and no protected area, " in capsys.readouterr().err


def test_runs_and_show_know_repaired_pictures(tools, capsys):
    main(["inpaint", saved("wall.png", *SQUARES), *PLAIN, "--run-id", "known"])
    capsys.readouterr()
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    assert "known" in out and "inpainting" in out and "a photo of a square" in out
    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["kind"], row["best"]) == ("inpainting", 1)
    assert main(["show", "known", "--json", "--out", "shown"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    (original,) = Path("out").glob("*/wall-repaired.png")
    assert np.array_equal(pixels(run["output"]), pixels(original))
    assert np.array_equal(pixels(run["input"]), pixels("wall.png"))


def test_each_picture_written_says_where_it_comes_from(tools, capsys):
    (run,) = run_json(capsys, saved("wall.png", *SQUARES), *PLAIN, "--run-id", "told")["runs"]
    found = [json.loads(Pillow.open(run["output"]).info["legion"])]
    (first,) = run["rounds"]
    for region in first["regions"]:
        for candidate in region["candidates"]:
            found.append(json.loads(Pillow.open(candidate["painted"]).info["legion"]))
            assert (found[-1]["prompt"], found[-1]["seed"]) == (region["prompt"], candidate["seed"])
    assert {(facts["run"], facts["round"]) for facts in found} == {("told", 1)}
    assert [facts["role"] for facts in found][:2] == ["result", "candidate 1 of region 1"]
    assert found[0]["models"]["inpainter"]["name"] == "gray painter"
    chain = json.loads(Path(run["output"]).with_name("wall-run.json").read_text())
    assert found[0]["input"] == chain["rounds"][0]["image"] and chain["asked"]["job"]
    assert main(["show", run["output"], "--json"]) == 0
    places = json.loads(capsys.readouterr().out)["places"]
    assert ("told", 1) in {(place["run_id"], place["round"]) for place in places}


def test_a_result_without_notes_is_found_as_the_loop_saw_it(tools, capsys):
    """Turned and on transparency, the file's own pixels are not those that the memory bank keeps."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    saved("turned.jpg", *SQUARES, exif=exif, quality=95)
    (run,) = run_json(capsys, "turned.jpg", *PLAIN, "--run-id", "turned", "--format", "webp")["runs"]
    assert "legion" not in Pillow.open(run["output"]).info
    assert main(["show", run["output"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["places"][0]["run_id"] == "turned"


def test_ctrl_c_says_how_to_go_on(tools, capsys, monkeypatch):
    def interrupted(requests):
        raise KeyboardInterrupt

    monkeypatch.setattr(tools.inpainter, "inpaint", interrupted)
    assert main(["inpaint", saved("wall.png", *SQUARES), *PLAIN, "--run-id", "cut"]) == 130
    assert "legion inpaint wall.png --no-prefect --dilate 1" in capsys.readouterr().err


# --- bad input ----------------------------------------------------------------------------------------


def fails(capsys, *words):
    assert main(["inpaint", *words]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and captured.out == ""
    return captured.err


def test_what_is_not_there_or_no_picture_is_one_line(tools, capsys):
    assert "nowhere.png does not exist" in fails(capsys, "nowhere.png", *PLAIN)
    Path("text.png").write_text("no picture")
    assert "text.png cannot be read" in fails(capsys, "text.png", *PLAIN)
    Path("empty").mkdir()
    assert "no picture in the folder empty" in fails(capsys, "empty", *PLAIN)
    assert "required" in fails(capsys, *PLAIN)


def test_a_mask_of_another_size_names_both(tools, capsys):
    name = saved("wall.png", *SQUARES)
    Pillow.fromarray(np.full((8, 9), 255, np.uint8)).save("mask.png")
    for option, called in (("--mask", "the mask"), ("--protect", "the protected area")):
        told = fails(capsys, name, option, "mask.png", *PLAIN)
        assert f"error: {called} " in told and "mask.png has 9x8 pixels and the picture 32x32" in told
    Pillow.fromarray(np.zeros((32, 32), np.uint8)).save("mask.png")
    assert "is empty" in fails(capsys, name, "--mask", "mask.png", *PLAIN)
    assert tools.defender.seen == []


def test_what_is_wrong_with_every_picture_is_said_once(tools, capsys):
    saved("in/a.png")
    saved("in/b.png")
    small = marked("small.png", 0, 8, (8, 8))
    assert "8x8 pixels and the picture 32x32" in fails(capsys, "in", "--mask", small, *PLAIN)
    Pillow.fromarray(picture(side=16)).save("in/c.png")
    assert main(["inpaint", "in", "--mask", small, *PLAIN]) == 1
    assert capsys.readouterr().err.count("left out: ") == 3, "not the same for all"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rounds", "0"], "--rounds is 0"),
        (["--candidates", "99"], "--candidates is 99: choose a number from 1 to 16"),
        (["--strength", "2"], "--strength is 2.0: choose above 0 up to 1"),
        (["--steps", "0"], "--steps is 0"),
        (["--guidance-scale", "-1"], "--guidance-scale is -1.0"),
        (["--min-confidence", "7"], "--min-confidence is 7.0: choose 0 to 1"),
        (["--min-area", "0.5", "--max-area", "0.1"], "--min-area is 0.5, above --max-area 0.1"),
        (["--max-area", "0.0001"], "min_area is 0.0005, above --max-area 0.0001"),
        (["--top-k", "0"], "--top-k is 0: choose 1 or more"),
        (["--dilate", "-3"], "--dilate is -3: choose 0 to 10000"),
        (["--seed", "-1"], "--seed is -1"),
        (["--profile", "tabeltop"], "did you mean 'tabletop'?"),
        (["--run-id", "../up"], "run id '../up' cannot be used"),
        (["--prompt", "\0"], "prompt is empty"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_out_of_range_are_one_line(tools, capsys, words, told):
    assert told in fails(capsys, saved("wall.png", *SQUARES), "--no-prefect", *words)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "list.jsonl, line 2: not JSON"),
        ("[]", "line 2: write an object with an image"),
        ('{"image": "a.png", "promt": "x"}', "line 2: unknown key 'promt'"),
        ('{"image": "a.png", "seed": "x"}', "line 2: seed must be"),
        ('{"image": "a.png", "mask": 3}', "line 2: mask must be text"),
        ('{"image": "a.png", "seed": 99999999999999999999}', "line 2: seed must be"),
        ('{"image": "a.png", "prompt": "\\u0000"}', "line 2: the prompt is empty"),
        ('{"image": ""}', "line 2: image is empty"),
        ('{"image": "."}', "line 2: image . is a folder"),
        ('{"image": "a.png", "protect": "."}', "line 2: protect . is a folder"),
        ('{"image": "a\\u0000.png"}', "line 2: image 'a\\x00.png' cannot be the name of a file"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_by_its_number(tools, capsys, line, told):
    saved("a.png")
    Path("list.jsonl").write_text('{"image": "a.png"}\n' + line)
    assert told in fails(capsys, "list.jsonl", *PLAIN)


def test_a_list_that_is_no_list_says_how_to_write_one(tools, capsys):
    Path("list.jsonl").write_text("\n \n")
    assert "list.jsonl has no lines: write one for each picture" in fails(capsys, "list.jsonl", *PLAIN)
    Path("list.jsonl").write_bytes(b'{"image": "\xff.png"}')
    assert "list.jsonl is not UTF-8 text: save it as UTF-8" in fails(capsys, "list.jsonl", *PLAIN)


def test_a_line_ends_where_json_says(tools, capsys):
    saved("a.png")
    Path("list.jsonl").write_text('{"image": "a.png", "prompt": "a wall\u2028by day"}', encoding="utf-8")
    (run,) = run_json(capsys, "list.jsonl", *PLAIN)["runs"]
    assert run["prompt"].startswith("a wall") and run["prompt"].endswith("by day")


# --- jobs ---------------------------------------------------------------------------------------------


def test_a_job_survives_the_way_through_json(tmp_path):
    requests = requests_for([Path(saved(tmp_path / "a.png"))], "a wall", 3, None, None)
    job = make_job("tabletop", load_profile("tabletop"), requests, "r", regions={"top_k": 2}, rounds=4)
    assert InpaintingJob.from_parameters(json.loads(json.dumps(job.as_parameters()))) == job
    assert (job.rounds, job.regions["top_k"], job.settings().regions.top_k) == (4, 2, 2)
    assert job.candidates == load_profile("tabletop").inpainting.candidates
    asking = make_job("tabletop", load_profile("tabletop"), requests, "r", memory=True)
    assert asking.memory and not job.memory


def test_results_of_pictures_with_one_name_do_not_overwrite_each_other():
    paths = [Path("x/a.png"), Path("y/a.jpg"), Path("a-2.png"), Path("b.png")]
    assert unique_stems(paths) == ["a", "a-2", "a-2-2", "b"]


def test_a_folder_without_pictures_is_no_job(tmp_path):
    with pytest.raises(InvalidInput):
        requests_for([tmp_path], "", 0, None, None)
