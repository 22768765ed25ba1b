"""The ways to train stand side by side, each figure of each kind of picture on a line of its own."""

from benchmarks.stages import table_of
from contracts.intervals import Interval
from defender.evaluation.figures import Figure


def figure(name, group, mean):
    return Figure(group, name, Interval(mean, mean - 0.1, mean + 0.1), 5)


def test_figures_of_one_kind_of_picture_meet_in_a_line():
    two = [figure("F1", "rendered", 0.5), figure("F1", "decoded", 0.4), figure("accuracy", "", 0.9)]
    joint = [figure("F1", "decoded", 0.6), figure("accuracy", "", 0.8), figure("F1", "rendered", 0.7)]
    lines = table_of([two, joint]).markdown().splitlines()
    assert lines[0] == "| percent | two stages | joint |"
    assert "| F1, rendered | 50.0 [40.0, 60.0] | 70.0 [60.0, 80.0] |" in lines
    assert "| F1, decoded | 40.0 [30.0, 50.0] | 60.0 [50.0, 70.0] |" in lines
    assert "| accuracy | 90.0 [80.0, 100.0] | 80.0 [70.0, 90.0] |" in lines and len(lines) == 5


def test_what_only_one_of_them_has_leaves_the_other_cell_empty():
    (line,) = table_of([[figure("F1", "", 0.5)], []]).lines
    assert line == ("F1", "50.0 [40.0, 60.0]", "")
