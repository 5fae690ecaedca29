"""The console's parts by themselves: words, figures, scales, timelines, sessions, files."""

import json
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.requests import Request

from services.gateway.console import assets, pages, sessions, words
from services.gateway.console.figures import Figures
from services.gateway.console.scales import Scale, around
from services.gateway.console.sessions import Sessions, is_foreign
from services.gateway.console.timeline import entry

CONSOLE = Path(pages.__file__).parent
ENGLISH, CHINESE = words.LANGUAGES["en"], words.LANGUAGES["zh"]


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/console/sign-in", "headers": raw, "query_string": b""})


# Files


def test_each_vendored_library_is_the_one_that_is_recorded() -> None:
    folder = CONSOLE / "static" / "vendor"
    recorded = dict(re.findall(r"^\| `([^`]+\.js)` .* `([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.MULTILINE))
    assert recorded.keys() == {path.name for path in folder.glob("*.js")}
    assert {name: sha256((folder / name).read_bytes()).hexdigest() for name in recorded} == recorded


def test_each_vendored_library_names_its_version_and_brings_its_licence() -> None:
    folder = CONSOLE / "static" / "vendor"
    for path in folder.glob("*.js"):
        version = re.search(r"-(\d+\.\d+\.\d+)\.min\.js$", path.name)
        assert version, path.name
        licences = [each for each in folder.glob("*.LICENSE") if each.name.startswith(path.name.split("-")[0])]
        assert [each for each in licences if version.group(1) in each.name]


def test_no_page_holds_an_inline_script_or_style_or_another_host() -> None:
    for path in CONSOLE.glob("templates/**/*.html"):
        text = path.read_text()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|hx-on|<script(?![^>]*\ssrc=)|javascript:", text), path
        assert not re.search(r"https?://", text), path
    for name in ("console.css", "console.js"):
        assert not re.search(r"https?://|\beval\b|@import", (CONSOLE / "static" / name).read_text()), name


def test_another_content_is_another_address(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a {}")
    before = assets.Assets(tmp_path).address("a.css")
    (tmp_path / "a.css").write_text("b {}")
    assert before != assets.Assets(tmp_path).address("a.css")


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [("ink", "paper"), ("ink", "card"), ("ink", "accent-soft"), ("ink", "warm-soft"), ("soft", "paper"), ("soft", "card"),
     ("soft", "rail"), ("soft", "accent-soft"), ("accent", "card"), ("accent", "paper"), ("accent", "accent-soft"),
     ("on-accent", "accent"), ("warm", "warm-soft")],
)  # fmt: skip
def test_every_text_stands_out_from_its_ground(theme: int, text: str, ground: str) -> None:
    themes = re.findall(r":root \{(.*?)\}", (CONSOLE / "static" / "console.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", themes[theme]))
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


# Words


def test_every_language_says_everything() -> None:
    for language in words.LANGUAGES.values():
        assert language.sentences.keys() == ENGLISH.sentences.keys()
        assert all(sentence.strip() for sentence in language.sentences.values())


def test_every_language_names_the_same_values() -> None:
    def values(sentence: str) -> set[str]:
        return set(re.findall(r"{(\w+)}", sentence))

    for key, sentence in ENGLISH.sentences.items():
        one_of_few = key.endswith(".one") or key == "customer.seen.one"
        for language in words.LANGUAGES.values():
            assert values(language.sentences[key]) == values(sentence) or one_of_few, key


def test_every_sentence_that_a_page_asks_for_is_there() -> None:
    texts = [path.read_text() for path in (*CONSOLE.glob("templates/**/*.html"), *CONSOLE.glob("*.py"))]
    plain = {key for text in texts for key in re.findall(r"\b(?:t|words)\(\s*['\"]([a-z_.0-9]+)['\"]\s*[,)]", text)}
    counted = {key for text in texts for key in re.findall(r"\b(?:t|words)\.count\(\s*['\"]([a-z_.]+)['\"]", text)}
    assert len(plain) > 100
    assert plain - ENGLISH.sentences.keys() == set()
    assert {f"{key}.{form}" for key in counted for form in ("one", "other")} - ENGLISH.sentences.keys() == set()


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "language"),
    [
        (None, None, None, "en"),
        ("zh", "en", "en", "zh"),
        (None, "zh", "en", "zh"),
        (None, None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, None, "de, en;q=0.3, zh;q=0.9", "zh"),
        (None, None, "zh;q=0, fr", "en"),
        ("tlh", None, "x;q=nonsense, zh;q=0.1", "zh"),
    ],
)
def test_the_language_is_the_one_asked_for_then_kept_then_accepted(
    asked: str | None, kept: str | None, accepted: str | None, language: str
) -> None:
    assert words.choose(asked, kept, accepted).language == language


def test_a_name_without_a_translation_is_made_readable() -> None:
    assert ENGLISH.name("entry", "days_since_last_order") == "Since the last order"
    assert ENGLISH.name("event", "Order Completed") == "Order"
    assert ENGLISH.name("entry", "shoe_size") == ENGLISH.name("entry", "shoeSize") == "Shoe size"
    assert ENGLISH.name("entry", "firstName") == "First name"
    assert ENGLISH.name("event", "Wishlist Shared") == "Wishlist Shared"


# Figures and scales


@pytest.mark.parametrize(
    ("text", "unit", "english", "chinese"),
    [
        ("1234.5", "currency", "1,234.50", "1,234.50"),
        ("1", "days", "1 day", "1 天"),
        ("1.44", "days", "1.4 days", "1.4 天"),
        ("41.26", "days", "41.3 days", "41.3 天"),
        ("4", "times", "4 times", "4 次"),
        ("2025-03-18", "date", "18 Mar 2025", "2025年3月18日"),
        ("Stoneware mug", "12 bought", "Stoneware mug (12 bought)", "Stoneware mug (12 bought)"),
        ("9", "on 2025-03-18", "9 (on 2025-03-18)", "9 (on 2025-03-18)"),
        ("0049 151 2", "", "0049 151 2", "0049 151 2"),
        ("01234", "", "01234", "01234"),
        ("nan", "days", "nan (days)", "nan (days)"),
        ('{"street": "11 Mill Lane", "city": "Lyon", "geo": {"x": 1}}', "", "11 Mill Lane, Lyon", "11 Mill Lane, Lyon"),
        ("{curly", "", "{curly", "{curly"),
        ("soon", "date", "soon", "soon"),
    ],
)
def test_a_value_is_shown_with_its_unit(text: str, unit: str, english: str, chinese: str) -> None:
    assert Figures(ENGLISH).value(text, unit) == english
    assert Figures(CHINESE).value(text, unit) == chinese


def test_figures_read_as_people_write_them() -> None:
    figures = Figures(ENGLISH)
    assert [figures.signed(-3.24), figures.signed(0), figures.signed(None)] == ["−3.2", "0.0", "–"]
    assert [figures.percent(0.624), figures.percent(-0.0001), figures.points(0.0312)] == ["62%", "0%", "+3.1"]
    assert [figures.seconds(0.1824), figures.seconds(1.94), figures.seconds(600)] == ["182 ms", "1.9 s", "10 min"]
    assert [figures.days(0.4), figures.days(1.9), figures.days(None)] == ["0 days", "1 day", "–"]
    assert figures.moment(datetime(2025, 4, 1, 11, 30, tzinfo=UTC)) == "1 Apr 2025, 11:30"


def test_a_scale_keeps_everything_inside() -> None:
    scale = Scale(-50.0, 50.0)
    assert [scale.at(value) for value in (-80, -50, 0, 25, 90)] == [0, 0, 50, 75, 100]
    assert scale.between(-10, 10) == 20


@pytest.mark.parametrize("values", [[], [None], [0.0], [0.031, 0.137], [-0.4, None, 0.1], [1.0, 1.0]])
def test_a_scale_around_values_holds_them_and_has_a_width(values: list[float | None]) -> None:
    scale = around(values, always=(0.0,), step=0.05)
    assert scale.low < scale.high
    assert all(scale.low <= value <= scale.high for value in values if value is not None)


# Timeline


def test_an_order_is_told_by_its_amount_and_products() -> None:
    products = [{"name": "Desk", "quantity": 2, "price": 10}, {"name": "Mug"}, {"product_id": "P1"}, {"name": "Lamp"}]
    properties = {"order_id": "1", "revenue": 1234.5, "currency": "EUR", "products": products}
    shown = entry(event("Order Completed", properties), ENGLISH)
    assert (shown.title, shown.kind) == ("Order", "order")
    assert shown.summary == "1,234.50 EUR · 2 × Desk, Mug, P1 +1"
    assert ("products.1", "name Desk, quantity 2, price 10") in shown.properties


@pytest.mark.parametrize(
    ("name", "properties", "title", "summary"),
    [
        ("Churn Scored", {"probability": 0.62, "version": "3"}, "Scored", "62% · model version 3"),
        ("Segment Entered", {"segment": "at_risk"}, "Entered segment", "At risk"),
        ("Survey Answered", {"rating": 9, "surveyId": "nps"}, "Answered", "9 in nps"),
        ("Order Completed", {}, "Order", ""),
        ("Order Completed", {"revenue": "much", "products": ["?", 3]}, "Order", ""),
        ("Order Completed", {"revenue": True, "products": {"a": 1}}, "Order", ""),
        ("Wishlist Shared", {"a": 1, "b": [1], "c": {"d": 2}, "e": "x"}, "Wishlist Shared", "a 1 · e x"),
    ],
)
def test_every_event_has_a_line(name: str, properties: dict[str, object], title: str, summary: str) -> None:
    shown = entry(event(name, properties), ENGLISH)
    assert (shown.title, shown.summary) == (title, summary)


def test_an_event_with_very_many_properties_shows_some() -> None:
    shown = entry(event("X", {f"p{number}": "y" * 5000 for number in range(2000)}), ENGLISH)
    assert len(shown.properties) == 40
    assert all(len(value) <= 160 for _, value in shown.properties)


def event(name: str, properties: dict[str, object]) -> dict[str, object]:
    return {
        "name": name,
        "type": "track",
        "properties": json.loads(json.dumps(properties)),
        "timestamp": None,
        "source": "shop",
    }


# Sessions


def test_a_session_ends_by_itself() -> None:
    now = [0.0]
    kept = Sessions(clock=lambda: now[0])
    token = kept.open("sk_1")
    assert kept.find(token) is not None
    now[0] = timedelta(hours=12, seconds=1) / timedelta(seconds=1)
    assert kept.find(token) is None


def test_a_closed_session_is_gone_and_a_guessed_one_never_was() -> None:
    kept = Sessions()
    token = kept.open("sk_1")
    kept.close(token)
    assert kept.find(token) is None
    assert kept.find("guess") is None


def test_more_sessions_than_there_is_room_for_end_the_oldest() -> None:
    kept = Sessions()
    tokens = [kept.open(f"sk_{number}") for number in range(sessions.MOST_SESSIONS + 1)]
    assert kept.find(tokens[0]) is None
    assert kept.find(tokens[-1]) is not None


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "same-site"}, True),
        ({"origin": "http://here:1", "host": "here:1"}, False),
        ({"origin": "http://there", "host": "here:1"}, True),
        ({"origin": "null", "host": "here:1"}, True),
        ({"host": "here:1"}, False),
    ],
)
def test_a_form_from_another_site_is_known(headers: dict[str, str], foreign: bool) -> None:
    assert is_foreign(request(**headers)) is foreign
