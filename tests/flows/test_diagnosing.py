"""Folders and batches: one bad file costs nothing but itself, and everything is told at the end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from flow_samples import finding, picture
from PIL import Image as Pillow
from test_report import Page

from contracts.errors import ModelError
from contracts.records import Diagnosis
from flows.cli import main
from flows.files.pictures import shrunk
from flows.jobs.diagnosing import Examined, Failed, examine, picture_paths, unique_stems
from flows.pages.overview import Overview


class Scripted:
    """Finds two flaws in pictures that are not gray all over; fails on pictures that are black all over."""

    name = "scripted"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def diagnose(self, images):
        self.batches.append(len(images))
        if any(not image.any() for image in images):
            raise ModelError("out of memory: try a smaller batch size")
        return [self._one(image) for image in images]

    def _one(self, image):
        if image.std() == 0:
            return Diagnosis((), None, "clean")
        return Diagnosis((finding("physics"), finding("structure", (20, 30))), 0.98, "flawed")

    def describe(self):
        return {"name": self.name, "checkpoint": "abc"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two flawed pictures, a sound one, one of another kind with the same name, and two broken files."""
    place = tmp_path / "pictures"
    place.mkdir()
    Pillow.fromarray(picture(1)).save(place / "a.png")
    Pillow.fromarray(picture(2)).save(place / "b <b>.jpg")
    Pillow.new("RGB", (64, 64), "gray").save(place / "c.png")
    Pillow.new("RGB", (64, 64), "gray").save(place / "c.bmp")
    (place / "words.png").write_text("no picture")
    (place / "cut.jpg").write_bytes((place / "b <b>.jpg").read_bytes()[:500])
    (place / "notes.txt").write_text("not looked at")
    return place


@pytest.fixture
def defender(scripted, monkeypatch) -> Scripted:
    import flows.assemble

    one = Scripted()
    monkeypatch.setattr(flows.assemble, "defender", lambda profile, **changes: one)
    return one


def run_folder(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["diagnose", *words])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def test_a_folder_goes_on_past_broken_files(defender, capsys, folder, tmp_path) -> None:
    code, said, told = run_folder(capsys, str(folder), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "2 pictures with findings, 2 without" in said and "no artifacts found" in said
    assert said.splitlines()[-1] == f"overview: {tmp_path / 'out' / 'overview.html'}"
    *_, first, second, last = told.splitlines()
    assert "cut.jpg" in first and "words.png" in second
    assert last == "error: 2 of 6 pictures could not be examined, as listed above"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a-marked.png", "b <b>-marked.png", "c-marked.png", "c-2-marked.png"} <= names
    assert "notes" not in told


def test_a_sound_folder_ends_with_zero(defender, capsys, folder) -> None:
    for name in ("cut.jpg", "words.png"):
        (folder / name).unlink()
    code, said, told = run_folder(capsys, str(folder), "--batch-size", "3")
    assert code == 0 and "error" not in told
    assert defender.batches == [3, 1]
    assert "out/diagnose-pictures/overview.html" in said


def test_json_of_a_folder_is_one_object(defender, capsys, folder) -> None:
    code, said, _ = run_folder(capsys, str(folder), "--json")
    found = json.loads(said)
    assert code == 1
    assert [Path(item["image"]).name for item in found["images"]] == ["a.png", "b <b>.jpg", "c.bmp", "c.png"]
    assert [len(item["findings"]) for item in found["images"]] == [2, 2, 0, 0]
    assert all(Path(item["overlay"]).is_file() for item in found["images"])
    assert [Path(item["image"]).name for item in found["failures"]] == ["cut.jpg", "words.png"]
    assert Path(found["overview"]).is_file()


def test_several_files_and_folders_count_once(folder) -> None:
    paths = picture_paths([folder / "c.png", folder, folder / "none.png"])
    assert [p.name for p in paths[:2]] == ["c.png", "a.png"] and paths[-1].name == "none.png"
    assert len(paths) == 7


def test_a_missing_file_among_others_is_listed(defender, capsys, folder) -> None:
    code, said, told = run_folder(capsys, str(folder / "a.png"), "gone.png")
    assert code == 1 and "gone.png does not exist" in told and "1 picture with findings, 0 without" in said


def test_a_single_bad_file_is_one_line(defender, capsys, folder) -> None:
    code, said, told = run_folder(capsys, str(folder / "words.png"))
    assert (code, said) == (1, "") and told.startswith("error: image") and told.count("\n") == 1


def test_an_empty_folder_is_refused(defender, capsys, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, told = run_folder(capsys, "empty")
    assert code == 1 and "empty holds no pictures" in told and told.count("\n") == 1


def test_a_failing_batch_costs_only_the_picture_that_fails(tmp_path) -> None:
    for number, color in enumerate(("red", "black", "gray")):
        Pillow.new("RGB", (8, 8), color).save(tmp_path / f"{number}.png")
    failures: list[Failed] = []
    results = list(examine(Scripted(), picture_paths([tmp_path]), 3, failures.append))
    assert [result.path.name for result in results] == ["0.png", "2.png"]
    (failed,) = failures
    assert failed.path.name == "1.png" and "1.png: out of memory" in failed.reason


def test_a_picture_that_cannot_be_drawn_fails_alone(defender, capsys, folder, monkeypatch) -> None:
    from flows.files import output

    def marked(image, findings):
        if np.array_equal(image, picture(1)):
            raise MemoryError
        return real(image, findings)

    real = output.marked
    monkeypatch.setattr(output, "marked", marked)
    code, said, told = run_folder(capsys, str(folder))
    assert code == 1 and "a.png cannot be drawn (MemoryError): use a smaller copy" in told
    assert "3 of 6 pictures could not be examined" in told and "b <b>.jpg" in said
    code, said, told = run_folder(capsys, str(folder / "a.png"))
    assert (code, said) == (1, "") and told.count("\n") == 1 and "a.png cannot be drawn" in told


def test_a_name_too_long_to_be_written_beside_fails_alone(defender, capsys, folder) -> None:
    (folder / "a.png").rename(folder / f"{'a' * 248}.png")
    code, said, told = run_folder(capsys, str(folder))
    assert code == 1 and "cannot be written (File name too long)" in told and "c.png" in said


def test_large_pictures_close_a_batch_early(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("flows.jobs.diagnosing.PIXELS_AT_ONCE", 150)
    for number in range(3):
        Pillow.new("RGB", (8, 8), "gray").save(tmp_path / f"{number}.png")
    defender = Scripted()
    assert len(list(examine(defender, picture_paths([tmp_path]), 16, pytest.fail))) == 3
    assert defender.batches == [2, 1]


def test_results_of_equal_names_do_not_overwrite_each_other() -> None:
    paths = [Path("x/a.png"), Path("y/a.png"), Path("y/A.jpg"), Path("a-2.png")]
    stems = unique_stems(paths)
    assert stems[0] == "a" and len({stem.casefold() for stem in stems}) == 4


def test_the_page_is_whole_and_escapes_names(tmp_path) -> None:
    overview = Overview(3)
    overview.add(Examined(Path("<script>.png"), picture(1), Diagnosis((finding(),), 0.98, "")))
    overview.add(Examined(Path("sound.png"), picture(2), Diagnosis((), None, "")))
    overview.fail(Failed(Path("x.png"), "image <i>x.png</i> cannot be read"))
    path = overview.write(tmp_path / "page.html", "holiday & work", [("name", "scripted")])
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.words)
    assert "holiday & work" in words and "<script>.png" in words and "<i>x.png</i>" in words
    assert "no word on real or generated" in words and "looks generated (98% sure)" in words
    assert "1 finding in 1 of 2 pictures" in words
    assert all(not value.startswith("http") for _, name, value in page.attributes if name in ("src", "href"))


def test_a_large_folder_shows_small_pictures_only(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("flows.pages.overview.DETAILED", 1)
    overview = Overview(2)
    for number in range(2):
        overview.add(Examined(Path(f"{number}.png"), picture(number), Diagnosis((finding(),), None, "")))
    text = overview.write(tmp_path / "page.html", "two", []).read_text(encoding="utf-8")
    assert text.count("<article") == 1 and text.count('href="#picture-') == 1


def test_a_shrunk_mask_never_vanishes() -> None:
    image = np.zeros((2000, 1000, 3), np.uint8)
    mask = np.zeros((2000, 1000), dtype=bool)
    mask[1500, 700] = True
    small = finding().__class__(mask, "a speck", "tiny.", "physics", 0.5)
    reduced, (speck,) = shrunk(image, [small], 200)
    assert reduced.shape == (200, 100, 3) and speck.mask.shape == (200, 100)
    assert speck.mask[150, 70] and speck.mask.sum() == 1


def test_a_picture_after_tiles_is_no_number(defender, capsys, folder) -> None:
    code, _, told = run_folder(capsys, "--tiles", str(folder / "a.png"))
    assert code == 1 and "name pictures before --tiles" in told and told.count("\n") == 1


def test_options_reach_the_defender(scripted, capsys, folder, monkeypatch) -> None:
    import flows.assemble

    asked = {}
    monkeypatch.setattr(
        flows.assemble, "defender", lambda profile, **changes: asked.update(changes) or Scripted()
    )
    words = ["--tiles", "--defender", "elsewhere", "--dtype", "bfloat16", "--4bit", "--device", "cuda:1"]
    assert main(["diagnose", str(folder / "a.png"), *words]) == 0
    assert asked == {
        "path": str(Path("elsewhere").resolve()),
        "device": "cuda:1",
        "dtype": "bfloat16",
        "four_bit": True,
        "tiles": 3,
    }
    asked.clear()
    assert main(["diagnose", str(folder / "a.png")]) == 0 and asked == {}
