"""The counts that say how far the judge can be believed."""

from benchmarks.judge import counts, markdown


def test_counts_have_the_check_in_rows_and_the_judge_in_columns():
    table = counts([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 2)
    assert table.tolist() == [[1, 1], [1, 2]]
    assert markdown(table, ("sound", "bad"), "check / judge").splitlines() == [
        "| check / judge | sound | bad |",
        "| --- | ---: | ---: |",
        "| sound | 1 | 1 |",
        "| bad | 1 | 2 |",
    ]
