from dataclasses import replace

import pytest

from offtarget.report import _claims_page, write_claims_page

from ._html_page import NASTY, Page


@pytest.fixture
def page(reproduction):
    return Page(_claims_page.render_claims(reproduction))


def test_claims_are_grouped_by_paper_and_experiment_with_those_of_no_experiment_last(reproduction):
    found = _claims_page.papers(reproduction)
    assert {number: [g.experiment for g in groups] for number, groups in found.items()} == {
        "2512.09742": ["toy-years", ""], "2604.10022": ["toy-years"],
    }  # fmt: skip
    assert [len(g.lines) for groups in found.values() for g in groups] == [2, 1, 2]


def test_every_verdict_is_counted_and_stands_as_a_word_beside_its_shape(page):
    text = " ".join(" ".join(page.text).split())
    assert "5 claims: 1 same direction, 1 not seen, 1 opposite, 2 cannot be asked here." in text
    rows = [attrs["data-state"] for tag, attrs in page.tags if tag == "tr" and "data-state" in attrs]
    assert sorted(rows) == ["impossible", "impossible", "opposite", "same", "unseen"]
    marks = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "verdict-mark"]
    assert all(attrs["aria-hidden"] == "true" for attrs in marks)
    assert "needs a model that acts" in text


def test_a_claim_shows_what_was_compared_with_interval_and_plot(reproduction, page):
    lines = [line for groups in _claims_page.papers(reproduction).values() for g in groups for line in g.lines]
    said = {line.claim: line for line in lines}
    assert said["Old names make a model old in 1984."].compared == "treatment against modern in 1984"
    assert said["More than in 1990."].compared == "treatment in 1984 against the same in 1990, less what this does to the base"
    assert said["Nothing happens in the domain."].compared == "kept against base, birds in trained years"
    assert said["Old names make a model old in 1984."].plot == pytest.approx((0.6, 0.5, 0.7, 0.05))
    assert said["It acts."].plot is None
    drawn = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "interval"]
    assert drawn[0] == "0.60, 95% interval 0.50 to 0.70, held against 0.05"


def test_the_page_leads_to_the_reports_and_fetches_nothing(page):
    links = {attrs["href"] for tag, attrs in page.tags if "href" in attrs and tag == "a"}
    assert "toy-years/report.html" in links
    assert all(link.startswith("#") or link == "toy-years/report.html" for link in links)
    assert not any(attrs.get("src") for _, attrs in page.tags)
    assert {link[1:] for link in links if link.startswith("#")} <= page.ids
    assert page.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert page.hashes() == page.allowed()


def test_names_and_texts_stay_text(reproduction, page):
    results = tuple(
        replace(r, why=NASTY, model=NASTY, claim=replace(r.claim, text=NASTY, published=NASTY, source=NASTY)) for r in reproduction.results
    )
    nasty = Page(_claims_page.render_claims(replace(reproduction, results=results, model=NASTY)))
    for tag in ("script", "img", "style"):
        assert nasty.count(tag) == page.count(tag)
    assert NASTY in nasty.text


def test_an_experiments_name_is_no_way_out_of_the_folder(reproduction):
    claim = replace(reproduction.results[0].claim, experiment="../x y")
    odd = replace(reproduction, results=(replace(reproduction.results[0], claim=claim),), studies={"../x y": None})
    assert _claims_page._group("../x y", [], odd).report == "../x%20y/report.html"


def test_a_page_without_any_study_is_written_whole(reproduction, tmp_path):
    write_claims_page(replace(reproduction, results=reproduction.results[-1:], studies={}), tmp_path / "claims.html")
    assert (tmp_path / "claims.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert not (tmp_path / "claims.html.tmp").exists()


def test_a_claim_about_groups_of_seeds_shows_what_the_test_says(reproduction, seeds_study):
    result = reproduction.results[0]
    claim = replace(result.claim, expect="split")
    line = _claims_page._line(replace(result, claim=claim), seeds_study[0])
    assert "Seeds of treatment fall into two groups" in line.why
    assert line.expected == "two groups of seeds"
