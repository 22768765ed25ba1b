"""Tables say what the figures say; published figures stand beside the same figure of the same data."""

import pytest

from contracts.intervals import Interval
from defender.evaluation import detection, reported, tasks
from defender.evaluation.figures import Figure
from defender.evaluation.perturbations import PERTURBATIONS
from defender.evaluation.pictures import spread
from defender.evaluation.tables import cell, table_of, to_json

LEGION = reported.Reported("LEGION (paper)", "arXiv 2503.15264", {("", "F1"): 36.96, ("", "other"): 1.0})


def figure(group, name, mean=0.5, pictures=10, difference=False):
    return Figure(group, name, Interval(mean, mean - 0.1, mean + 0.1), pictures, difference)


def test_cells_are_percent_and_differences_carry_their_sign():
    assert cell(figure("", "F1", 0.8549)) == "85.5 [75.5, 95.5]"
    assert cell(figure("", "F1 lost", 0.05, difference=True)) == "+5.0 [-5.0, +15.0]"
    assert cell(None) == ""


def test_groups_across():
    found = [figure("a", "F1"), figure("a", "mIoU"), figure("b", "F1", pictures=2000)]
    table = table_of(found, "groups", [LEGION])
    assert table.head == ("percent", "a", "b", "LEGION (paper)", "pictures")
    assert table.lines[0] == ("F1", cell(found[0]), cell(found[2]), "36.96", "2,000")
    assert table.lines[1] == ("mIoU", cell(found[1]), "", "", "10")


def test_figures_across_show_only_what_was_reported_of_them():
    row = reported.Reported("LEGION (paper)", "s", {("GANs", "accuracy"): 97.01})
    found = [figure("GANs", "accuracy"), figure("GANs", "average precision"), figure("SAN", "accuracy")]
    table = table_of(found, "figures", [row])
    assert table.head == ("percent", "accuracy", "average precision", "accuracy, LEGION (paper)", "pictures")
    assert [line[3] for line in table.lines] == ["97.01", ""]


def test_markdown_has_a_line_for_everything():
    text = table_of([figure("", "F1"), figure("", "mIoU")], "groups", []).markdown()
    assert text.splitlines()[:2] == ["| percent | measured | pictures |", "| --- | ---: | ---: |"]
    assert len(text.splitlines()) == 4


def test_json_keeps_shares_and_intervals():
    made = to_json([figure("a", "F1", 0.25)], [LEGION])
    assert made["figures"] == [
        {"group": "a", "figure": "F1", "value": 0.25, "low": 0.15, "high": 0.35, "pictures": 10}
    ]
    assert made["reported"][0]["percent"][0] == {"group": "", "figure": "F1", "value": 36.96}


def test_paper_rows_are_of_their_own_data_alone():
    by_who = {row.who: row.values for row in reported.reported_for("synthscars", "localization")}
    assert by_who["LEGION (paper)"][("", "mIoU")] == 59.41
    assert by_who["PAL4VST (paper)"][("", "F1")] == 29.21
    assert [row.who for row in reported.reported_for("tabletop", "localization")] == ["bar"]
    assert reported.reported_for("", "localization") == []


def test_css_of_another_model_is_not_put_beside_the_papers():
    rows = reported.reported_for("synthscars", "explanation")
    (kept,) = reported.without(rows, "CSS")
    assert list(kept.values) == [("", "ROUGE-L, whole answer")]
    assert reported.without([reported.Reported("a", "b", {("", "CSS"): 1.0})], "CSS") == []


@pytest.mark.parametrize("task", tasks.TASKS)
def test_everything_reported_names_a_figure_and_a_group_that_exist(task):
    """A row under another name would silently never be shown."""
    artifact = {"area": 0.001, "f1": 1.0, "iou": 1.0, "category": True, "phrase": True, "nouns": True}
    overlap = {"mIoU": 1.0, "F1": 1.0, "IoU": 1.0, "overlap": 1, "union": 1}
    head = {"group": "", "clean": True, "findings": 0}
    rows = {
        "localization": [{**head, **overlap, "artifacts": [artifact] * 2}],
        "explanation": [
            {
                **head,
                **{m: {"findings": 1.0, "answer": 1.0} for m in ("ROUGE-L", "CSS")},
                **{f"{m} matched": [1.0] for m in ("ROUGE-L", "CSS")},
            }
        ],
        "robustness": [{**head, "settings": {p.name: {**head, **overlap} for p in PERTURBATIONS}}],
        "guidance": [{**head, "own": [1.0], "another artifact": [0.0], "another picture": [0.0]}],
        "detection": [
            {"group": group, "real": real, "synthetic": 0.5}
            for group in ["render against painting", *(m[0] for m in reported.families().values())]
            for real in (True, False)
        ],
    }[task]
    if task == "detection":
        figures = detection.figures(rows, reported.families())
    else:
        figures = tasks.TASKS[task].figures(rows)
    places = {(f.group, f.name) for f in figures}
    for data in ("synthscars", "loki", "richhf", "universalfakedetect", "tabletop"):
        for row in reported.reported_for(data, task):
            assert set(row.values) <= places, row


def test_spread_takes_them_evenly_and_always_the_same():
    assert spread(10, None) == spread(10, 99) == list(range(10))
    assert spread(10, 4) == [0, 2, 5, 7]


GENERATORS = [name for names in reported.families().values() for name in names]


@pytest.mark.parametrize(
    ("data", "split", "pictures", "groups", "same"),
    [
        ("synthscars", "test", 1000, (), True),
        ("synthscars", "train", 1000, (), False),
        ("synthscars", "test", 999, (), False),
        ("richhf", "test", 955, (), True),
        ("richhf", "train", 955, (), False),
        ("richhf", "test", 20, (), False),
        ("loki", "any", 300, (), True),
        ("universalfakedetect", "any", 88_000, GENERATORS, True),
        ("universalfakedetect", "any", 88_000, [g.upper() for g in GENERATORS if g != "sitd"], True),
        ("universalfakedetect", "any", 88_000, [g for g in GENERATORS if g != "seeingdark"], True),
        ("universalfakedetect", "any", 88_000, [g for g in GENERATORS if g != "san"], False),
        ("universalfakedetect", "any", 500, GENERATORS, False),
    ],
)
def test_others_figures_stand_only_beside_their_own_data(data, split, pictures, groups, same):
    assert reported.is_published(data, split, pictures, groups) is same
