"""A table of text in Markdown."""

from contracts.tables import Table


def test_what_a_cell_says_makes_no_cell_of_its_own():
    table = Table(("arm", "a|b"), (("two\nlines", "1"),))
    assert table.markdown().splitlines() == ["| arm | a\\|b |", "| --- | ---: |", "| two lines | 1 |"]
