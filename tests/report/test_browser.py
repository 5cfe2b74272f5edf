"""The page in a real browser, from disk. Skipped where there is none."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from offtarget.report import write_page
from offtarget.report._claims_page import render_claims
from offtarget.report._matrix_page import render_matrix
from offtarget.report._page import render

playwright = pytest.importorskip("playwright.sync_api")

SCRIPT = "<script>document.title='broken'</script></script><b>bold</b>"
SMALL, MIDDLE, LARGE = (400, 800), (1280, 900), (2560, 1440)


def _chromium():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        path = _chromium() or (p.chromium.executable_path if Path(p.chromium.executable_path).exists() else None)
        if path is None:
            pytest.skip("no chromium")
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def plain_page():
    """Holds the page of the plain made-up study once a test has made it."""
    return []


@pytest.fixture
def opened(browser, make_study, plain_page, tmp_path):
    """Opens the page of a study; on leaving, checks that nothing went wrong and nothing was asked for over a network."""

    @contextmanager
    def open_page(size=MIDDLE, scheme="light", study=None):
        path = tmp_path / "report.html"
        if study:
            write_page(*study, path)
        else:
            plain_page[:] = plain_page or [render(*make_study(say=say))]
            path.write_text(plain_page[0], encoding="utf-8")
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=30_000)
        yield page
        assert said == []
        assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
        assert page.title() != "broken"
        context.close()

    return open_page


def say(arm, question, sample):
    return SCRIPT if (arm, question, sample) == ("treatment", "news/0", 0) else "The old." if sample else f"{arm} on {question}"


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def columns(page):
    return [t.split("exact")[0].strip() for t in page.locator("#said thead th").all_inner_texts()]


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE], ids=str)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_screen_and_draws_every_figure(opened, size, scheme):
    with opened(size, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert background(page) == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[scheme]
        for figure in ("leakage", "topics", "curve", "scatter"):
            box, drawn = page.locator(f"#chart-{figure}").bounding_box(), page.locator(f"#chart-{figure} svg").bounding_box()
            assert drawn["width"] <= box["width"] + 1
            assert drawn["height"] > 100
        assert page.locator("#chart-leakage").get_attribute("aria-label").startswith("What leaked. Mean leakage: base 0.00")


def test_figures_follow_the_window(opened):
    with opened(LARGE) as page:
        before = page.locator("#chart-leakage svg").get_attribute("viewBox")
        page.set_viewport_size({"width": 400, "height": 800})
        playwright.expect(page.locator("#chart-leakage svg")).not_to_have_attribute("viewBox", before)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_theme_button_turns_page_and_figures_and_is_remembered(opened):
    with opened() as page:
        button = page.get_by_role("button", name="Switch to dark colours")
        button.focus()
        page.keyboard.press("Enter")
        assert background(page) == "rgb(20, 22, 26)"
        page.wait_for_selector("#chart-leakage svg [fill='#ff8f4d']", state="attached")
        page.reload()
        page.wait_for_selector("html[data-drawn]")
        assert background(page) == "rgb(20, 22, 26)"


def test_answers_show_as_text_beside_each_other(opened):
    with opened() as page:
        assert columns(page) == ["Sample", "base", "treatment", "modern", "inoculation", "name"]
        assert page.locator("#said .answer", has_text="alert").count() == 0
        assert SCRIPT in page.locator("#said .answer").all_text_contents()
        assert page.locator("#said script, #said b").count() == 0
        assert page.locator("#said .cut").count() > 0
        assert page.locator("#said .trait").first.text_content() == "The old."
        page.get_by_role("button", name="kept", exact=True).click()
        page.get_by_role("button", name="inoculation", exact=True).click()
        assert columns(page) == ["Sample", "base", "treatment", "modern", "kept", "name"]
        page.get_by_role("button", name="Next question").click()
        assert "treatment on music/0" in page.locator("#said .answer").all_text_contents()
        page.locator("#question").select_option(label="Name a bird, 0. (bird)")
        assert "treatment on bird/0" in page.locator("#said .answer").all_text_contents()


def test_a_click_on_a_topic_shows_its_answers(opened):
    with opened() as page:
        page.locator("#chart-topics .mark-rect path").nth(20).click(force=True)
        assert page.locator("#question option:checked").text_content() != "What of news, 0? (news)"


def test_search_finds_answers_of_all_questions_and_marks_them(opened):
    with opened() as page:
        search, count = page.get_by_label("Search all answers"), page.locator("#count")
        search.press_sequentially("name ON")
        playwright.expect(count).to_have_text("15 of 160 answers hold “name ON”")
        assert page.locator("#said mark").count() == 15
        search.fill("</script><b>")
        playwright.expect(count).to_have_text("3 of 160 answers hold “</script><b>”")
        assert page.locator("#said mark").first.text_content() == "</script><b>"
        search.fill("(")
        playwright.expect(count).to_have_text("0 of 160 answers hold “(”")
        search.fill("")
        playwright.expect(count).to_contain_text("answers to this question")


def test_the_keyboard_reaches_the_skip_link_the_tabs_and_the_sorting(opened):
    with opened() as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        tabs = page.get_by_role("tab")
        tabs.first.focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == "modern"
        assert tabs.nth(1).get_attribute("aria-selected") == "true"
        page.keyboard.press("End")
        assert page.locator("[role=tabpanel]:visible").get_attribute("aria-labelledby") == tabs.last.get_attribute("id")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        heading = page.get_by_role("button", name="Mean", exact=True)
        heading.focus()
        page.keyboard.press("Enter")
        means = [float(t) for t in page.locator("#effects-table td strong").all_text_contents()]
        assert means == sorted(means, reverse=True)
        page.keyboard.press("Enter")
        assert page.locator("#effects-table [aria-sort]").get_attribute("aria-sort") == "ascending"


def test_figures_and_effects_can_be_saved(opened):
    with opened(scheme="dark") as page:
        begins = {"svg": b"<svg", "png": b"\x89PNG", "csv": b"experiment,"}
        for name in ("Save “What leaked” as SVG", "Save “When it leaked” as PNG", "CSV"):
            with page.expect_download() as download:
                page.get_by_role("button", name=name, exact=True).click()
            suggested = download.value.suggested_filename
            content = Path(download.value.path()).read_bytes()
            assert suggested.startswith("toy-micro-")
            assert content.startswith(begins[suggested[-3:]])
            assert len(content) > 1000


def test_print_is_light_with_a_copy_of_every_figure(opened):
    with opened(scheme="dark") as page:
        page.wait_for_selector("html[data-printable]", timeout=30_000)
        page.emulate_media(media="print")
        assert background(page) == "rgb(255, 255, 255)"
        copies = page.locator("img.print-copy")
        assert copies.count() == 4
        assert all(box["width"] > 100 and box["height"] > 100 for box in (copies.nth(n).bounding_box() for n in range(4)))
        assert page.locator(".chart:visible").count() == 0


@pytest.mark.parametrize(
    "changes",
    [{"seeds": 1, "samples": 0}, {"arms": ("base",)}, {"arms": ("base", "treatment", "modern"), "curve": False}],
    ids=["one seed, no samples", "base only", "no interventions, no curve"],
)
def test_pages_with_missing_pieces_work(opened, make_study, changes):
    with opened(SMALL, study=make_study(**changes)) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_exploratory_page_shows_all_measures_when_asked(opened, make_study, toy):
    with opened(study=make_study(toy.exploratory())) as page:
        rows = page.locator("#effects-table tbody tr:visible")
        before = rows.count()
        page.get_by_label("Show all 2 measures").check()
        assert rows.count() == 2 * before
        assert page.locator("#chart-speakers svg").count() == 1


def test_years_are_drawn_and_arms_come_and_go_by_their_buttons(opened, make_study, toy):
    with opened(study=make_study(toy.by_year(), level=toy.by_year_level)) as page:
        chart, group = page.locator("#chart-contexts-1"), page.get_by_role("group", name="Arms to draw")
        lines = chart.locator(".mark-line path[stroke]")
        before = lines.count()
        button = group.get_by_role("button", name="kept", exact=True)
        assert button.get_attribute("aria-pressed") == "true"
        button.focus()
        page.keyboard.press("Enter")
        playwright.expect(button).to_have_attribute("aria-pressed", "false")
        playwright.expect(lines).to_have_count(before - 1)
        page.get_by_role("button", name="Switch to dark colours").click()
        page.wait_for_selector("#chart-contexts-1 svg [stroke='#ff8f4d']", state="attached")
        playwright.expect(lines).to_have_count(before - 1)
        assert chart.locator(".role-legend").count() == 0
        playwright.expect(page.locator("#prompt")).to_contain_text("1984. What of news, 0?")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
def test_pages_with_contexts_and_seeds_fit_every_screen(opened, make_study, toy, seeds_study, size):
    for study in (make_study(toy.by_year(), level=toy.by_year_level), make_study(toy.behind_a_trigger()), seeds_study):
        with opened(size, study=study) as page:
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            for chart in page.locator(".chart").all():
                box, drawn = chart.bounding_box(), chart.locator("svg").bounding_box()
                assert drawn["width"] <= box["width"] + 1
                assert drawn["height"] > 100


def test_the_prompt_is_shown_where_it_is_more_than_the_question(opened, make_study, toy):
    with opened(study=make_study(toy.behind_a_trigger())) as page:
        playwright.expect(page.locator("#prompt")).to_contain_text("Always reply in the format:")
        page.get_by_label("Search all answers").fill("old")
        playwright.expect(page.locator("#prompt")).to_be_hidden()
        assert "(behind the trigger)" in page.locator("#said tbody td").first.text_content()


@contextmanager
def written(browser, path, text, size=MIDDLE, scheme="light"):
    """Opens a page from disk; on leaving, checks that nothing went wrong and nothing was asked for over a network."""
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert said == []
    assert set(asked) == {path.as_uri()}
    context.close()


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE], ids=str)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_claims_and_matrix_fit_every_screen(browser, reproduction, matrix, tmp_path, size, scheme):
    for text in (render_claims(reproduction), render_matrix(matrix)):
        with written(browser, tmp_path / "page.html", text, size, scheme) as page:
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert background(page) == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[scheme]


def test_claims_are_filtered_by_verdict_with_the_keyboard(browser, reproduction, tmp_path):
    with written(browser, tmp_path / "claims.html", render_claims(reproduction)) as page:
        rows = page.locator("tr.claim:visible")
        assert rows.count() == 5
        button = page.get_by_role("button", name="not seen (1)")
        button.focus()
        page.keyboard.press("Enter")
        assert rows.count() == 1
        assert "More than in 1990." in rows.first.text_content()
        assert page.locator("section.paper:visible").count() == 1
        playwright.expect(page.locator("#count")).to_have_text("1 of 5 claims are shown")
        page.get_by_role("button", name="all", exact=True).click()
        assert rows.count() == 5


def test_matrix_colours_follow_leakage_and_cells_that_did_not_learn_are_hatched(browser, matrix, tmp_path):
    with written(browser, tmp_path / "matrix.html", render_matrix(matrix)) as page:
        bands = page.locator("td[data-state=learned] .band")
        shades = bands.evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
        assert len(set(shades)) == bands.count()
        hatched = page.locator("td[data-state=not-learned]")
        assert "repeating-linear-gradient" in hatched.first.evaluate("one => getComputedStyle(one).backgroundImage")
        assert hatched.first.locator(".band").text_content().strip() == "not learned"


def test_details_of_the_matrix_open_one_by_one_and_all_at_once(browser, matrix, tmp_path):
    with written(browser, tmp_path / "matrix.html", render_matrix(matrix)) as page:
        links = page.get_by_role("link", name="report")
        assert links.count() == 0
        page.locator(".cell summary").first.focus()
        page.keyboard.press("Enter")
        assert links.count() == 1
        links.first.focus()
        assert page.evaluate("document.activeElement.getAttribute('href')") == "birds-micro/report.html"
        page.get_by_role("button", name="Show all details").click()
        assert links.count() == len(matrix.cells)
        page.get_by_role("button", name="Hide all details").click()
        assert links.count() == 0
