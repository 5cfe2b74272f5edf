from dataclasses import replace

import pytest

from offtarget.report import _matrix_page, write_matrix_page
from offtarget.report._palette import COLOURS

from ._colours import contrast, mixed
from ._html_page import NASTY, Page


@pytest.fixture
def page(matrix):
    return Page(_matrix_page.render_matrix(matrix))


def test_experiments_are_rows_and_models_with_their_settings_columns(matrix, page):
    assert [(c.model, c.settings) for c in _matrix_page.columns(matrix)] == [
        (model, f"learning rate {rate}") for model in ("micro", "micro-small") for rate in ("0.001", "0.003")
    ]
    heads = [text.strip() for text in page.texts_of("th")]
    assert heads == ["Experiment", "micro", "micro-small", *["learning rate 0.001", "learning rate 0.003"] * 2, "birds", "cities"]


def test_a_cell_that_did_not_learn_says_so_and_has_no_colour(page):
    states = [(attrs["data-state"], "style" in attrs) for tag, attrs in page.tags if tag == "td"]
    assert states.count(("not-learned", False)) == 2
    assert ("not-learned", True) not in states
    assert states.count(("learned", True)) == 5
    assert states.count(("unknown", True)) == 1
    text = " ".join(page.text)
    assert text.count("not learned") >= 3
    assert "no leakage" in text


def test_the_summary_tells_learned_from_leaking(matrix):
    assert _matrix_page.summary(matrix) == (
        "In 5 of 8 cells the narrow task was learned: 4 leak and 1 show no leakage above 0.05. "
        "In 2 it was not learned: there, no leakage says nothing. In 1 cell nothing tells whether it was."
    )


def test_a_cell_below_its_control_is_one_without_leakage(matrix):
    below = replace(matrix.cells[0], leaks=False, vanished=True, leakage=0.1, control=0.4)
    assert "3 leak and 2 show no leakage above 0.05." in _matrix_page.summary(replace(matrix, cells=(below, *matrix.cells[1:])))


def test_low_coverage_and_a_difference_that_is_not_shown_stand_in_the_cell(matrix):
    cells = [_matrix_page.shown(c) for c in matrix.cells]
    assert [c.low_coverage for c in cells if c.low_coverage] == ["0.31"]
    assert [c.told for c in cells] == ["leaks", "leaks", "", "no leakage", "leaks", "leaks", "", "leaks"]
    assert cells[0].retained == "0.70"
    assert cells[0].details == [("control", "0.010"), ("control, in-domain", "0.020"), ("inoculation", "0.020")]
    assert _matrix_page.shown(replace(matrix.cells[0], leaks=None, vanished=None)).told == ""
    assert _matrix_page.shown(replace(matrix.cells[0], leaks=False, vanished=True, leakage=0.1, control=0.4)).told == "below its control"


def test_a_difference_that_is_neither_there_nor_absent_is_left_open(matrix):
    wide = replace(matrix.cells[0], leaks=False, vanished=False)
    assert _matrix_page.shown(wide).told == "not shown"
    assert "3 leak, 1 show no leakage above 0.05 and in 1 neither is shown with 4 seeds." in _matrix_page.summary(
        replace(matrix, cells=(wide, *matrix.cells[1:]))
    )


def test_a_combination_that_was_not_run_is_said_to_be_so(matrix):
    page = Page(_matrix_page.render_matrix(replace(matrix, cells=matrix.cells[:-1])))
    assert sum(attrs.get("data-state") == "missing" for _, attrs in page.tags) == 1


def test_models_of_one_name_in_different_folders_keep_their_folders(matrix):
    cells = tuple(replace(c, model=f"{folder}/m") for c, folder in zip(matrix.cells, "aabbaabb", strict=True))
    assert [t.strip() for t in Page(_matrix_page.render_matrix(replace(matrix, cells=cells))).texts_of("th")][1:3] == ["a/m", "b/m"]


def test_without_varied_settings_there_is_one_row_of_heads(matrix):
    cells = tuple(replace(c, settings={}) for c in matrix.cells[::2])
    page = Page(_matrix_page.render_matrix(replace(matrix, cells=cells)))
    assert not any("rowspan" in attrs for _, attrs in page.tags)


def test_the_page_leads_to_the_reports_and_fetches_nothing(matrix, page):
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert {c.report for c in matrix.cells} <= links
    assert {link[1:] for link in links if link.startswith("#")} <= page.ids
    assert not any(attrs.get("src") for _, attrs in page.tags)
    assert page.hashes() == page.allowed()


def test_names_stay_text(matrix, page):
    cells = tuple(replace(c, experiment=NASTY, model=NASTY, intervention=NASTY, report=f"{NASTY}/report.html") for c in matrix.cells)
    nasty = Page(_matrix_page.render_matrix(replace(matrix, cells=cells)))
    for tag in ("script", "img", "style"):
        assert nasty.count(tag) == page.count(tag)
    assert all('"' not in attrs.get("href", "") and "<" not in attrs.get("href", "") for _, attrs in nasty.tags)


def test_it_is_written_whole(matrix, tmp_path):
    write_matrix_page(matrix, tmp_path / "matrix.html")
    assert (tmp_path / "matrix.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert not (tmp_path / "matrix.html.tmp").exists()


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_large_figures_stand_out_from_every_shade(theme):
    low, middle, high = (COLOURS[f"scale-{name}"][theme] for name in ("low", "middle", "high"))
    for heat in range(101):
        shade = mixed(low, middle, min(1, heat / 50)) if heat <= 50 else mixed(middle, high, heat / 50 - 1)
        text = COLOURS["on-high" if heat / 100 >= _matrix_page.STRONG else "on-low"][theme]
        assert contrast(text, shade) >= 3, heat
