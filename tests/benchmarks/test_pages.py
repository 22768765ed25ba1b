"""Tables on pages are what was measured, and a command writes them."""

import pytest

from benchmarks import pages

ANSWER = """command
weights

| figure | bar | measured |
| --- | --- | --- |
| ours: gone | >= 60 % | 85.7 % [82.1, 89.2] |
| ours: paintings |  | 5.6 |
| theirs: gone |  | 67.4 % [62.1, 72.6] |
| theirs: paintings |  | 6.6 |

Then:

| what | seconds |
| --- | --- |
| painting | 0.4 |
"""


def filled(page):
    return pages.fill(page, {"repairs": ANSWER}.__getitem__)


def test_a_marked_table_becomes_what_was_measured_and_its_surroundings_stay():
    old = "| what | seconds |\n| --- | --- |\n| painting | 9 |\n"
    page = f"Before.\n\n<!-- measured: repairs 2 -->\n\n{old}\nAfter.\n"
    assert filled(page) == page.replace("| 9 |", "| 0.4 |")


def test_a_table_without_a_mark_is_left_alone():
    page = "| what | seconds |\n| --- | --- |\n| painting | 9 |\n"
    assert filled(page) == page


def test_arms_become_columns_with_the_first_arms_bars_in_the_rows_of_the_page():
    mark = "<!-- measured-arms: repairs theirs=LEGION's way; ours=`ours` -->\n\n"
    old = "| figure | bar | a |\n| --- | --- | --- |\n| paintings |  | 1 |\n| gone |  | 2 |\n"
    assert filled(mark + old) == mark + (
        "| figure | bar | LEGION's way | `ours` |\n| --- | --- | --- | --- |\n"
        "| paintings |  | 6.6 | 5.6 |\n| gone |  | 67.4 % [62.1, 72.6] | 85.7 % [82.1, 89.2] |\n"
    )


def test_check_names_a_page_that_shows_something_else_and_leaves_it(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    page.write_text("<!-- measured: repairs 2 -->\n\n| what |\n")
    monkeypatch.setattr(pages, "PAGES", (page,))
    monkeypatch.setattr(pages, "measured", lambda _name: ANSWER)
    monkeypatch.setattr("sys.argv", ["pages", "--check"])
    assert pages.main() == 1 and "another table" in capsys.readouterr().out
    assert page.read_text().endswith("| what |\n")
    monkeypatch.setattr("sys.argv", ["pages"])
    assert pages.main() == 0 and page.read_text().endswith("| painting | 0.4 |\n")


@pytest.mark.parametrize("page", pages.PAGES, ids=str)
def test_a_page_shows_the_tables_that_were_measured(page):
    text = page.read_text()
    assert pages.fill(text, pages.measured) == text
