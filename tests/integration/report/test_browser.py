"""The page of `rakuten report` in headless Chromium: what it asks for, what it draws, how it fits, and who can read it."""

import html
import re
from itertools import pairwise

import pytest
from browser import SCHEMES, WIDTHS, visit
from report_history import ATTACK, write_report_history
from repository import ROOT
from waiting import eventually

from db.database import Role
from rakuten.report.page import page_of
from rakuten.report.tables import read_facts

SCREENSHOTS = ROOT / "build" / "screenshots"
DRAWN = "html[data-drawn]"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
AA_TEXT, AA_SHAPE = 4.5, 3.0


@pytest.fixture(scope="module")
def file(browser, shared_database, tmp_path_factory):
    import vl_convert  # noqa: PLC0415  it loads a JavaScript engine

    with shared_database() as database:
        write_report_history(database)
        with database.connect(Role.READER, "test", autocommit=True) as reader:
            facts = read_facts(reader, database.settings, is_embedded=False)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page_of(facts, vl_convert.javascript_bundle()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_asks_for_nothing_complains_of_nothing_and_fits(browser, file, width, scheme):
    with visit(browser, file, width=width, scheme=scheme) as visited:
        visited.page.wait_for_selector(DRAWN)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        visited.page.screenshot(path=SCREENSHOTS / f"report-{width}-{scheme}.png", full_page=True)
        visited.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert visited.page.evaluate(WIDER) == 0
        assert (visited.requests, visited.messages) == ([], [])
        figures = visited.page.locator("[data-figure]")
        assert figures.count() == 10
        for figure in figures.all():
            assert figure.locator("svg").bounding_box()["width"] <= figure.bounding_box()["width"] + 1
            assert figure.locator("svg path, svg rect, svg text").count() > 20


def test_each_figure_has_a_text_and_each_control_a_name(browser, file):
    with visit(browser, file, width=1400) as visited:
        visited.page.wait_for_selector(DRAWN)
        for figure in visited.page.locator(".figure").all():
            assert figure.get_attribute("role") == "img"
            assert len(figure.get_attribute("aria-label")) > 30
        for control in visited.page.locator("a, button, summary").all():
            assert control.text_content().strip()
        levels = visited.page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3')].map((one) => +one.tagName[1])"
        )
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        assert visited.page.locator("html").get_attribute("lang") == "en"


def test_without_javascript_each_figure_has_its_table(browser, file):
    with visit(browser, file, width=390, java_script_enabled=False) as visited:
        for figure in visited.page.locator("section:has([data-figure])").all():
            assert figure.locator("noscript").count()
            figure.locator("summary").first.click()
            assert figure.locator("table").first.is_visible()
        assert visited.messages == []


def test_a_keyboard_opens_a_table_and_scrolls_it(browser, file):
    with visit(browser, file, width=390) as visited:
        visited.page.wait_for_selector(DRAWN)
        summary = visited.page.locator("#classes summary").first
        summary.focus()
        visited.page.keyboard.press("Enter")
        box = visited.page.locator("#classes .scroll").first
        assert box.is_visible()
        visited.page.keyboard.press("Tab")
        assert visited.page.evaluate("document.activeElement.className") == "scroll"
        visited.page.keyboard.press("ArrowRight")
        eventually(lambda: box.evaluate("(one) => one.scrollLeft") > 0)


def test_the_figures_follow_a_change_from_light_to_dark(browser, file):
    with visit(browser, file, width=1400) as visited:
        visited.page.wait_for_selector(DRAWN)
        label = visited.page.locator("#rows svg text").first
        light = label.get_attribute("fill")
        visited.page.emulate_media(color_scheme="dark")
        eventually(lambda: label.get_attribute("fill") != light)


def test_figures_that_are_drawn_again_are_finalized_first_and_one_draw_waits_for_the_other(browser, file):
    with visit(browser, file, width=1400) as visited:
        visited.page.wait_for_selector(DRAWN)
        visited.page.evaluate(
            "() => { window.open_views = 10; window.most = 10; const embed = vegaEmbed;"
            "drawn.then((results) => results.forEach(count));"
            "function count(result) { const end = result.finalize;"
            "  result.finalize = () => { open_views -= 1; end.call(result); }; return result; }"
            "vegaEmbed = (...given) => { open_views += 1; most = Math.max(most, open_views);"
            "  return embed(...given).then(count); } }"
        )
        visited.page.evaluate("Promise.all([draw(), draw(), draw()]).then(() => null)")
        assert visited.page.evaluate("[open_views, most]") == [10, 10]
        assert visited.page.locator("[data-figure] svg.marks").count() == 10


def test_the_button_copies_the_query(browser, file):
    with visit(browser, file, width=1400) as visited:
        visited.page.wait_for_selector(DRAWN)
        visited.page.locator("#rows .query summary").click()
        visited.page.locator("#rows .query button").click()
        selected = visited.page.evaluate("getSelection().toString()")
        assert selected.strip() == visited.page.locator("#rows .query code").inner_text().strip()
        assert selected.startswith("-- The completed batches")


def test_the_title_of_a_product_is_shown_as_text_and_runs_nothing(browser, file):
    with visit(browser, file, width=1400) as visited:
        visited.page.on("dialog", lambda dialog: visited.messages.append(dialog.message))
        visited.page.wait_for_selector(DRAWN)
        visited.page.locator("#suspects summary").first.click()
        cells = visited.page.locator("#suspects td").all_inner_texts()
        assert " ".join(ATTACK.split()) in [" ".join(cell.split()) for cell in cells]
        assert visited.messages == []


def test_the_policy_of_the_page_stops_a_script_that_gets_in_and_any_request(browser, file, tmp_path):
    attacked = tmp_path / "attacked.html"
    attack = '<script>document.title = "taken"</script><img src="https://example.org/x.png"></main>'
    attacked.write_text(file.read_text(encoding="utf-8").replace("</main>", attack), encoding="utf-8")
    with visit(browser, attacked, width=1400) as visited:
        visited.page.wait_for_selector(DRAWN)
        assert visited.page.title().startswith("Pipeline report")
        assert len([message for message in visited.messages if "Content Security Policy" in message]) >= 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_and_colours_have_enough_contrast(browser, file, scheme):
    with visit(browser, file, width=1400, scheme=scheme) as visited:
        style = visited.page.evaluate(
            "Object.fromEntries(['paper','card','ink','muted','link','good','bad',1,2,3,4,5].map((name) => {"
            "const key = typeof name === 'number' ? `series-${name}` : name;"
            "return [key, getComputedStyle(document.documentElement).getPropertyValue(`--${key}`).trim()]}))"
        )
    for name, colour in style.items():
        if name not in {"paper", "card"}:
            needed = AA_SHAPE if name.startswith("series") else AA_TEXT
            for ground in ("paper", "card"):
                assert contrast(colour, style[ground]) >= needed, (scheme, name, ground)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours. https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_page_names_no_server_but_those_in_the_librarys_own_texts(file):
    own = re.sub(r"<script>.*?</script>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    addresses = set(re.findall(r"https?://[^\"'\s]+", html.unescape(own)))
    assert addresses <= {"https://vega.github.io/schema/vega-lite/v6.json"}
