"""What is written of a benchmark: numbers that read back, tables that say what they are, LEGION's beside."""

from __future__ import annotations

import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet
import pytest
from made_results import PICKED, SOUND, TASTE, load_image, made, noisy

from contracts.errors import InvalidInput
from contracts.intervals import Interval
from contracts.tables import Table
from flows.benchmark import figures, page, paper, results, tables
from flows.benchmark.curves import Line, curves
from flows.benchmark.figures import CurvePoint
from flows.benchmark.measuring import Measure
from flows.benchmark.picture import picture
from flows.benchmark.tables import Figures, Titled
from flows.terminal.benchmarking import print_tables

GAINS = {"one-shot": 0.0, "best-of-n": 0.1, "regeneration": 0.3, "oracle": 0.4}


@pytest.fixture(scope="module")
def found() -> Figures:
    return Figures.of(made(noisy(40, GAINS, repeats=2)))


def test_numbers_are_read_again_as_they_were_written(tmp_path) -> None:
    measured = made(noisy(3, GAINS, repeats=2))
    files = results.write(measured, tmp_path)
    assert results.to_json(results.load(tmp_path)) == json.loads(json.dumps(results.to_json(measured)))
    with open(files["csv"], newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert len(listed) == 4 * 3 * 2 * 2  # arms, prompts, seeds, stands
    table = pyarrow.parquet.read_table(files["parquet"]).to_pylist()
    assert [row["picture"] for row in table] == [row["picture"] for row in listed]
    final = [row for row in table if row["final"]]
    assert len(final) == len(table) / 2 and all(row["generator_calls"] == 2 for row in final)
    assert final[0]["report"] == pytest.approx(measured.values["p0"]["one-shot-0-0-1"]["report"])


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1}'])
def test_a_file_that_is_no_benchmark_is_refused(tmp_path, content) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InvalidInput, match="no result of legion benchmark"):
        results.load(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        results.load(tmp_path / "nowhere")


def test_the_flaws_that_are_left_come_with_an_interval() -> None:
    before = np.repeat([0.0, 1.0], [60, 40])[:, None]
    after = np.repeat([1.0, 0.0, 1.0], [40, 25, 35])[:, None]
    values = {
        arm: {"sound": grid, "report": grid + 1, "taste": grid + 1}
        for arm, grid in (("one-shot", before), ("regeneration", after))
    }
    row = next(c for c in figures.comparisons(made(values)) if c.measure == SOUND)
    assert row.failures.mean == pytest.approx(25 / 60)
    assert row.failures.low < 25 / 60 < row.failures.high < 1
    assert row.repaired.mean == pytest.approx(40 / 60) and row.broken.mean == pytest.approx(5 / 40)


def test_every_table_is_there_and_says_what_selected(found) -> None:
    text = tables.markdown(found)
    for title in (
        "Final pictures",
        "Against one-shot",
        "Against best-of-n, same seconds",
        "By category: sound",
        "Costs",
    ):
        assert f"### {title}" in text
    assert "arms that choose by it look better than they are" in text
    assert "oracle (a bound)" in text
    holm = [c.p_holm for c in found.comparisons if c.measure == PICKED]
    assert holm == [c.p for c in found.comparisons if c.measure == PICKED]


def test_a_bound_is_marked_on_the_terminal_too(found) -> None:
    for titled in tables.brief(found):
        if "sound" in str(titled.table):
            assert "oracle (a bound)" in {line[0] for line in titled.table.lines}


def test_few_prompts_come_with_a_caution() -> None:
    assert "too few" in tables.caution(made(noisy(29, GAINS)))
    assert not tables.caution(made(noisy(30, GAINS)))
    alone = made(noisy(1, {"rewriting": 0.0}))
    assert tables.caution(alone).startswith("1 prompt is too few")
    assert tables.title(alone).startswith("1 prompt of test")
    assert page.verdict(Figures.of(alone)) == "1 arm, 3 measures."


def test_the_verdict_follows_the_interval() -> None:
    def said(gain: float) -> str:
        values = noisy(60, {"one-shot": 0.0, "best-of-n": 0.1, "regeneration": gain})
        return page.verdict(Figures.of(made(values, measures=(TASTE, SOUND, PICKED))))

    assert "does better than best-of-n at 2 generator calls" in said(0.3)
    assert "does worse than best-of-n" in said(0.0)
    assert "cannot be told apart" in said(0.1)


def test_the_page_needs_nothing_from_elsewhere(found) -> None:
    html = page.render(found, load_image)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert "<script" not in html
    pictures = re.findall(r'<img src="data:image/[^"]+" alt="([^"]+)"', html)
    assert len(pictures) == 3 * 3 * 2  # arms beside another one, cases, pictures
    for arm in found.results.ran:
        assert f"{arm.name}</li>" in html


def test_the_picture_has_differences_and_curves_and_needs_nothing(found) -> None:
    text = picture(found)
    drawn = ElementTree.fromstring(text)
    assert not re.findall(r"(?:href|src|url|@import)", text)
    names = [words.text for words in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for name in (
        "against one-shot",
        "against best-of-n",
        "sound by generator calls",
        "sound by model seconds",
    ):
        assert names.count(name) == 1
    assert "Regeneration does better than best-of-n" in " ".join(filter(None, names))
    width, height = (float(drawn.attrib[side]) for side in ("width", "height"))
    for panel in drawn.iter("{http://www.w3.org/2000/svg}g"):
        if at := panel.attrib.get("transform"):
            x, y = map(float, re.findall(r"[\d.]+", at))
            (inner,) = panel.iter("{http://www.w3.org/2000/svg}svg")
            assert x + float(inner.attrib["width"]) <= width and y + float(inner.attrib["height"]) <= height


def test_the_picture_of_one_arm_alone_has_its_curve() -> None:
    assert "sound by generator calls" in picture(Figures.of(made(noisy(2, {"rewriting": 0.0}))))


def test_lines_of_one_arm_stand_below_its_name(found) -> None:
    html = page.render(found, load_image)
    section = html[html.index("<h2>Against one-shot</h2>") :]
    section = section[: section.index("</section>")]
    assert re.findall(r'scope="rowgroup" colspan="10">([^<]+)<', section) == [
        "best-of-n",
        "regeneration",
        "oracle (a bound)",
    ]
    assert section.count('<tr class="again">') == 3 * 3  # arms, measures


def test_curves_have_bars_by_calls_and_bands_by_seconds(found) -> None:
    lines = [
        Line(arm, 0, figures.curve_by_seconds(found.results, arm, "report")) for arm in ("one-shot", "oracle")
    ]
    bands, bars = curves("report", "seconds", lines), curves("report", "calls", lines, whole=True)
    assert bands.count('class="band') == 2 and 'class="bar' not in bands
    assert 'class="band' not in bars and bars.count('class="bar') == sum(len(line.points) for line in lines)


def test_what_costs_nothing_is_drawn_too() -> None:
    free = curves("report", "seconds", [Line("given", 0, [CurvePoint(0.0, Interval(1.0, 0.9, 1.1))])])
    assert "nan" not in free and "inf" not in free


def test_words_of_a_prompt_are_words_on_the_page() -> None:
    measured = made(noisy(2, GAINS), texts=["<script>alert(1)</script>", "a & b"])
    html = page.render(Figures.of(measured), load_image)
    assert "<script>alert" not in html and "&lt;script&gt;" in html


def test_the_gallery_has_best_median_and_worst() -> None:
    gain = np.array([[0.5], [0.1], [-0.4], [0.2], [0.3]])
    flat = np.ones((5, 1))
    values = {
        arm: {"sound": flat, "report": grid, "taste": flat}
        for arm, grid in (("one-shot", flat), ("best-of-n", flat + gain))
    }
    cases = list(page.gallery(made(values), "best-of-n", load_image))
    assert [(case.word, case.prompt[-1]) for case in cases] == [
        ("best", "0"),
        ("median", "3"),
        ("worst", "2"),
    ]


def test_the_papers_table_stands_beside_ours() -> None:
    hps = Measure("hps", "reporting scorer (hpsv2)", "reporting")
    flat = np.full((4, 1), 0.30)
    values = {"one-shot": {"hps": flat}, "regeneration": {"hps": flat * 1.1}}
    measured = made(values, measures=(hps,), preset="paper")
    theirs, ours, their_repairs, our_repairs = paper.paper_table(measured).table.lines
    assert theirs[:4] == ("regeneration", "LEGION (paper)", "31.24", "33.36")
    assert theirs[4:] == ("+6.98 % (as printed)", "+6.79 %")
    assert ours[2].startswith("30.00 [") and ours[3].startswith("33.00 [") and "+10.00 %" in ours[4]
    assert their_repairs[5] == "+2.13 %" and our_repairs[2:] == ("–",) * 4
    assert "Beside the paper's table 4" in tables.markdown(Figures.of(measured))
    assert "Beside the paper" not in tables.markdown(Figures.of(made(values, measures=(hps,))))


def test_intervals_go_below_their_values_where_a_table_is_too_wide(capsys) -> None:
    narrow, wide = (
        Titled("T", Table(("arm", *"x" * columns), tuple((a, *["1.0 [0.5, 1.5]"] * columns) for a in "aab")))
        for columns in (2, 8)
    )
    print_tables([narrow])
    assert capsys.readouterr().out.count("1.0 [0.5, 1.5]") == 6
    print_tables([wide])
    said = capsys.readouterr().out
    assert "1.0 [" not in said and said.count("[0.5, 1.5]") == 24
    assert sum("│ a " in line for line in said.splitlines()) == 1
