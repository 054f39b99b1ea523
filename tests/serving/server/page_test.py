"""The page, driven in Chromium as a person does, against a server with a tiny model."""

import contextlib
import json
import re
import shutil
import threading
import time
import types
import urllib.parse
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from stub_engine import StubEngine, serving

from genrec.decoding import loaded_model
from genrec.serving import bundle_export
from genrec.serving.bundle_export import ExportOptions
from genrec.serving.served_engine import ServedEngine
from genrec.serving.server import app, run
from genrec.serving.server.limits import Tokens
from genrec.serving.server.service import Service
from genrec.serving.server.settings import ServerSettings
from genrec.serving.store.store import Store

MINUTE = 60_000  # milliseconds: a search may be compiled meanwhile
ITEM = "#list > li"
MINUS = "\N{MINUS SIGN}"
MARKUP = '<img src=x onerror="document.title=1"><b>Bold</b> & "quoted"'


class Server:
    """A running server."""

    def __init__(self, url: str):
        self.url = url

    def call(self, method: str, path: str, body: object = None):
        answer = httpx.request(method, f"{self.url}{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str):
        return self.call("GET", path)

    def events(self, user: str, items: list[str]) -> None:
        self.call("POST", "/v1/events", {"user": user, "events": [{"item_id": item} for item in items]})


@pytest.fixture(scope="module")
def server(listener, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    options = ExportOptions(beams=20, batch_sizes=(1,))
    bundle_export.export(loaded_model.load(listener), listener, folder / "bundle", options, None)
    settings = ServerSettings(port=0, deadline_ms=MINUTE)
    store = Store.open(f"sqlite:///{folder / 'store.sqlite'}")
    service = Service(ServedEngine.load(folder / "bundle"), str(folder / "bundle"), store, Tokens(None), settings)
    running = run.Server(app.make(service), service)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not (service.is_ready and running.started):
        assert thread.is_alive() and not service.failed.is_set()
        time.sleep(0.05)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield Server(f"http://127.0.0.1:{port}")
    running.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert path, "no Chromium: launch/test.sh installs Debian's package; elsewhere install a browser first"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server) -> Iterator[Page]:
    """The page as it is opened first, with a list for somebody new; its problems and requests are checked after."""
    yield from opened(browser, server)


def opened(browser: Browser, server, width: int = 1280, **context) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce", **context)
    context.set_default_timeout(MINUTE)
    expect.set_options(timeout=MINUTE)
    page = context.new_page()
    problems, elsewhere = [], []
    page.on("pageerror", lambda problem: problems.append(problem))
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(server.url) else 0)
    page.goto(server.url)
    listed(page)
    yield page
    assert problems == []
    assert elsewhere == [], "nothing is fetched from another server"
    context.close()


def listed(page: Page) -> None:
    expect(page.locator("#list:not([aria-busy])")).to_be_attached()
    expect(page.locator(ITEM).or_(page.locator("#list-empty:visible")).first).to_be_visible()


@contextlib.contextmanager
def asks(page: Page) -> Iterator[types.SimpleNamespace]:
    """Waits for the list that the actions within ask for; afterwards has its request and the result."""
    asked = types.SimpleNamespace()
    with page.expect_response("**/v1/recommend") as answer:
        yield asked
    (asked.request,) = answer.value.request.post_data_json["requests"]
    (asked.result,) = answer.value.json()["results"]
    listed(page)


def ids(page: Page) -> list[str]:
    return page.locator(ITEM).evaluate_all("rows => rows.map(row => row.dataset.item)")


def action(page: Page, place: int, name: str):
    return page.locator(ITEM).nth(place).locator(f"[data-action={name}]")


def go_to(page: Page, user: str) -> None:
    with asks(page):
        page.get_by_label("Choose a user").fill(user)
        page.keyboard.press("Enter")


def profile(server, user: str) -> dict[str, str]:
    """Returns the kind of each entry by what it is about, as the server has them."""
    return {entry["about"]: entry["kind"] for entry in server.get(f"/v1/profiles/{user}")["entries"]}


def test_a_list_has_titles_media_types_and_scores(page):
    with asks(page) as asked:
        page.get_by_role("button", name="Recommend").click()
    assert asked.request["history"] == []
    rows, items = page.locator(ITEM), asked.result["recommended"]
    expect(rows).to_have_count(len(items))
    assert len(items) == 10
    for place, item in enumerate(items):
        row = rows.nth(place)
        expect(row.get_by_role("heading")).to_contain_text(item["title"])
        expect(row.locator(".kind")).to_have_text(item["attributes"]["media_type"])
        expect(row.locator(".score")).to_contain_text(f"{item['score']:.2f}".replace("-", MINUS))
        certified = place < asked.result["certified"]
        expect(row.locator(".certified")).to_be_visible(visible=certified)


def test_a_history_is_built_by_searching_titles_with_the_keyboard(page, server):
    chosen = server.get("/v1/items?prefix=s&limit=2")["items"]
    for item in chosen:
        search = page.get_by_label("Add a title to the history")
        search.fill(item["title"][:-1])
        options = page.get_by_role("option")
        expect(options.first).to_be_visible()
        place = options.all_inner_texts().index(next(t for t in options.all_inner_texts() if item["title"] in t))
        with asks(page) as asked:
            for _ in range(place + 1):
                page.keyboard.press("ArrowDown")
            expect(search).to_have_attribute("aria-activedescendant", re.compile("."))
            page.keyboard.press("Enter")
        expect(search).to_have_value("")
    assert asked.request["history"] == [item["item_id"] for item in chosen], "oldest first"
    history = page.locator("#history li")
    expect(history).to_have_count(2)
    expect(history.first).to_contain_text(chosen[1]["title"])
    with asks(page) as asked:
        history.first.get_by_role("button", name=f"Remove: {chosen[1]['title']}").click()
    assert asked.request["history"] == [chosen[0]["item_id"]]
    with asks(page) as asked:
        page.get_by_role("button", name="Clear the history").click()
    assert asked.request["history"] == []


def test_escape_and_no_result_close_the_suggestions(page):
    search = page.get_by_label("Add a title to the history")
    search.fill("s")
    expect(page.locator("#title-options")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#title-options")).to_be_hidden()
    search.fill("no title is like that")
    expect(page.locator("#title-status")).to_have_text("nothing found")


def test_an_item_that_a_user_adds_is_an_event_on_the_server(page, server):
    server.events("ada", ["m00001", "m00002"])
    page.reload()
    listed(page)
    page.get_by_label("Choose a user").fill("ad")
    with asks(page) as asked:
        page.get_by_role("option", name=re.compile("ada")).click()
    assert asked.request["user"] == "ada" and "history" not in asked.request
    assert asked.result["history_items"] == 2
    expect(page.locator("#person")).to_have_text("ada")
    expect(page.locator("#history li")).to_have_count(2)
    (item, *_) = ids(page)
    with asks(page) as asked:
        action(page, 0, "choose").click()
    assert asked.result["history_items"] == 3
    assert [event["item_id"] for event in server.get("/v1/users/ada/events")["events"]][-1] == item
    with asks(page) as asked:
        page.get_by_role("button", name="Somebody new instead").click()
    assert asked.request["history"] == []


def test_parts_of_a_prompt_are_shown_and_switched_off(page):
    page.get_by_label("What would you like?").fill("something calm, no podcasts")
    with asks(page) as asked:
        page.keyboard.press("Enter")
    parts = asked.result["understood"]["parts"]
    assert len(parts) == 2
    chips = page.locator("#parts button")
    expect(chips).to_have_count(2)
    for chip, part in zip(chips.all(), parts, strict=True):
        expect(chip).to_contain_text(part["text"])
        expect(chip).to_have_attribute("aria-pressed", "true")
    expect(chips.nth(1)).to_contain_text("never")
    assert all(item["attributes"]["media_type"] != "podcast" for item in asked.result["recommended"])
    with asks(page) as asked:
        chips.nth(0).click()
    assert asked.request["rules"] == "off:1"
    with asks(page) as asked:
        chips.nth(1).click()
    assert asked.request["rules"] == "off:1,2"
    expect(chips.nth(0)).to_contain_text("left out")
    expect(chips.nth(1)).to_contain_text("taste only")
    assert not any(part["rule"] for part in asked.result["understood"]["parts"])
    with asks(page) as asked:
        chips.nth(1).press("Space")
    assert asked.request["rules"] == "off:1"
    expect(chips.nth(1)).to_be_focused()
    with asks(page) as asked:
        page.get_by_label("What would you like?").fill("")
    assert "prompt" not in asked.request
    expect(page.locator("#understood")).to_be_hidden()


def test_rules_that_leave_too_few_items_are_loosened_by_one_button(page, server):
    artists = next(column for column in server.get("/v1/columns")["columns"] if column["name"] == "artist")
    artist = min(artists["values"], key=lambda one: one["items"])["value"]
    page.get_by_label("What would you like?").fill(f"something calm, by {artist}")
    with asks(page) as asked:
        page.keyboard.press("Enter")
    assert asked.result["shortage"]["eligible"] == len(asked.result["recommended"]) < 10
    expect(page.locator("#shortage")).to_contain_text(f"{asked.result['shortage']['eligible']} items")
    with asks(page):  # parts of taste that are left out do not count
        page.locator("#parts button", has_text="calm").click()
    with asks(page) as asked:
        page.get_by_role("button", name=re.compile("Treat .* as taste")).click()
    assert asked.request["rules"] == "off:1,2"
    assert len(asked.result["recommended"]) == 10
    expect(page.locator("#shortage")).to_be_hidden()


def test_chips_and_conditions_filter_the_list(page):
    with asks(page) as asked:
        page.get_by_role("button", name="podcast", exact=True).click()
    assert asked.request["filters"] == ["media_type~podcast"]
    assert {item["attributes"]["media_type"] for item in asked.result["recommended"]} == {"podcast"}
    with asks(page) as asked:
        page.get_by_role("button", name="music", exact=True).click()
    assert asked.request["filters"] == ["media_type~podcast,music"]
    page.get_by_text("More filters").click()
    page.get_by_label("Column").select_option("duration_seconds")
    page.get_by_label("Comparison").select_option("at least")
    page.get_by_label("Value", exact=True).fill("600")
    with asks(page) as asked:
        page.keyboard.press("Enter")
    assert asked.request["filters"][1:] == ["duration_seconds>=600"]
    assert all(item["attributes"]["duration_seconds"] >= 600 for item in asked.result["recommended"])
    with asks(page) as asked:
        page.get_by_role("button", name="Remove: duration seconds at least 600").click()
    assert asked.request["filters"] == ["media_type~podcast,music"]
    with asks(page) as asked:
        page.get_by_role("button", name="Clear all filters").click()
    assert asked.request["filters"] == []
    expect(page.locator("#filters [aria-pressed=true]")).to_have_count(0)


def test_guidance_and_the_history_switch_are_part_of_the_request(page):
    slider = page.get_by_role("slider", name="Guidance")
    slider.focus()
    with asks(page) as asked:
        page.keyboard.press("ArrowRight")
    assert asked.request["guidance"] == 1.5
    expect(page.locator("#guidance-value")).to_have_text("1.5")
    with asks(page) as asked:
        action(page, 0, "choose").click()
    with asks(page) as asked:
        page.get_by_label("Only what is not in the history").check()
    assert asked.request["exclude_history"] is True
    assert asked.request["history"][0] not in ids(page)


def test_more_less_and_never_edit_the_profile_of_a_user(page, server):
    server.events("bo", ["m00003"])
    go_to(page, "bo")
    said = {}
    for kind in ("more_of", "less_of", "blocked"):
        item = next(item for item in ids(page) if f"item={item}" not in said)
        said[f"item={item}"] = kind
        with asks(page) as asked:
            page.locator(f"[data-item='{item}'] [data-action={kind}]").click()
        assert "profile" not in asked.request, "the server has it"
        assert profile(server, "bo") == said
    assert item not in ids(page)
    assert item not in [one["item_id"] for one in asked.result["recommended"]]
    with asks(page):
        page.get_by_role("button", name="Undo").click()
    del said[f"item={item}"]
    assert profile(server, "bo") == said
    expect(page.locator("#toast")).to_be_hidden()
    pressed = page.locator("[data-action=more_of][aria-pressed=true]")
    if pressed.count():  # pressed again, it is taken back
        with asks(page):
            pressed.click()
        assert "more_of" not in profile(server, "bo").values()


def test_a_button_pressed_again_takes_back_what_was_said(page):
    item = ids(page)[0]
    more = page.locator(f"[data-item='{item}'] [data-action=more_of]")
    with asks(page) as asked:
        more.click()
    assert [entry["about"] for entry in asked.request["profile"]["entries"]] == [f"item={item}"]
    while not more.count():  # the untrained model may like others better
        with asks(page):
            page.locator("[data-action=blocked]").first.click()
    expect(more).to_have_attribute("aria-pressed", "true")
    with asks(page) as asked:
        more.click()
    assert f"item={item}" not in [entry["about"] for entry in asked.request["profile"]["entries"]]


def test_never_again_can_be_widened_to_what_the_item_is(page):
    with asks(page) as asked:
        page.get_by_role("button", name="Recommend").click()
    item = asked.result["recommended"][0]
    with asks(page):
        action(page, 0, "blocked").click()
    expect(page.locator("#toast-text")).to_contain_text(item["title"])
    with asks(page) as asked:
        page.locator("#toast-choices").get_by_role("button", name=item["attributes"]["media_type"]).click()
    kind = item["attributes"]["media_type"]
    assert [entry["about"] for entry in asked.request["profile"]["entries"]] == [f"media_type={kind}"]
    assert all(one["attributes"]["media_type"] != kind for one in asked.result["recommended"])
    expect(page.locator("#taste-words")).to_have_text(f"Never {kind}.")


def test_keys_lead_to_what_was_done_and_back(page):
    first = ids(page)[0]
    with asks(page):
        action(page, 0, "blocked").press("Enter")
    assert first not in ids(page)
    expect(page.locator("#toast")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#toast")).to_be_hidden()
    expect(page.locator(ITEM).first.locator("[data-action=blocked]")).to_be_focused()


def test_reasons_are_bars_of_their_size(page, server):
    server.events("cy", ["m00004", "m00005"])
    go_to(page, "cy")
    why = action(page, 0, "why")
    with page.expect_response("**/v1/explain") as answer:
        why.click()
    (found,) = answer.value.json()["explanations"]
    assert answer.value.request.post_data_json["items"] == ids(page)[:1]
    expect(why).to_have_attribute("aria-expanded", "true")
    bars = page.locator(".bars li")
    shown = [*found["reasons"][:6], ["all", found["joint_change"]]]
    expect(bars).to_have_count(len(shown))
    widths = []
    for row, (_, change) in zip(bars.all(), shown, strict=True):
        expect(row.locator(".number")).to_have_text(f"{change:+.2f}".replace("-", MINUS))
        bar, track = row.locator(".bar").bounding_box(), row.locator(".track").bounding_box()
        assert (bar["x"] + bar["width"] / 2 > track["x"] + track["width"] / 2) == (change >= 0)
        widths.append(bar["width"])
    longest = max(abs(change) for _, change in shown)
    for width, (_, change) in zip(widths, shown, strict=True):
        assert width == pytest.approx(max(widths) * abs(change) / longest, abs=1.5)
    why.click()
    expect(page.locator(".why:visible")).to_have_count(0)


def test_the_taste_is_said_in_words_and_edited(page, server):
    server.events("di", ["m00006"])
    go_to(page, "di")
    field = page.get_by_label("What the new entry is about")
    field.fill("podc")
    with asks(page):
        page.get_by_role("option", name=re.compile("podcast")).first.click()
    assert profile(server, "di") == {"media_type=podcast": "more_of"}
    title = server.get("/v1/items/m00007")["title"]
    page.get_by_label("Kind of the new entry").select_option("Never")
    field.fill(title)
    with asks(page):
        page.get_by_role("option", name=title).click()
    expect(page.locator("#taste-words")).to_have_text(f"More of podcast. Never “{title}”.")
    kind = page.get_by_label("podcast: kind")
    kind.focus()
    with asks(page):
        kind.select_option("Less of")
    expect(kind).to_be_focused()
    with asks(page):
        page.get_by_label("podcast: how much").select_option("twice as much")
    with asks(page):
        page.get_by_label("podcast: how long").select_option("for a week")
    entries = {entry["about"]: entry for entry in server.get("/v1/profiles/di")["entries"]}
    entry = entries["media_type=podcast"]
    assert (entry["kind"], entry["strength"], entry["source"]) == ("less_of", 2, "said")
    assert entry["until"] > entry["since"]
    expect(page.locator("#taste-words")).to_have_text(f"Less of podcast. Never “{title}”.")
    with asks(page):
        page.get_by_role("button", name=f"Remove: “{title}”").press("Enter")
    expect(page.locator("#entries :focus")).to_be_attached()
    assert list(profile(server, "di")) == ["media_type=podcast"]
    field.fill("genre=no such genre")
    with page.expect_response("**/v1/profiles/di"):
        page.get_by_role("option", name="as written").click()
    expect(page.get_by_role("alert")).to_contain_text("no such genre")
    with asks(page):
        page.get_by_role("button", name="Forget all of it").click()
    assert profile(server, "di") == {}
    with asks(page):
        page.get_by_role("button", name="Undo").click()
    assert list(profile(server, "di")) == ["media_type=podcast"]


def test_the_page_says_what_changed_since_the_last_list(page):
    expect(page.locator("#changes")).to_be_empty()
    before = ids(page)
    with asks(page):
        page.get_by_role("button", name="podcast", exact=True).click()
    now = ids(page)
    for place, item in enumerate(now):
        badge = page.locator(ITEM).nth(place).locator(".change")
        if item not in before:
            expect(badge).to_have_text("new")
        elif before.index(item) == place:
            expect(badge).to_be_empty()
        else:
            move = before.index(item) - place
            expect(badge).to_have_text(f"{abs(move)} {'up' if move > 0 else 'down'}")
    gone = [item for item in before if item not in now]
    expect(page.locator("#changes")).to_contain_text(f"{len(gone)} gone")
    page.get_by_text("What is gone?").click()
    expect(page.locator("#gone-titles li")).to_have_count(len(gone))
    with asks(page):
        page.get_by_role("button", name="Recommend").click()
    expect(page.locator("#changes")).to_have_text("Since the last list nothing changed.")


def test_a_model_that_takes_no_prompts_has_a_page_without(browser, tmp_path):
    engine = StubEngine()
    engine.takes_prompts = False
    with serving(f"sqlite:///{tmp_path / 'store.sqlite'}", engine) as served:
        for page in opened(browser, Server(str(served.client.base_url))):
            expect(page.get_by_label("What would you like?")).to_be_hidden()
            expect(page.get_by_role("slider")).to_be_hidden()
            page.get_by_text("More filters").click()
            with asks(page) as asked:
                page.get_by_role("group", name="tags").get_by_role("button", name="live").click()
            assert asked.request["filters"] == ["tags~live"]
            assert all("live" in item["attributes"]["tags"] for item in asked.result["recommended"])


def test_a_token_is_asked_for_where_the_server_wants_one(browser, server):
    page = browser.new_context().new_page()
    page.route(
        "**/v1/**",
        lambda route: (
            route.continue_()
            if route.request.headers.get("authorization") == "Bearer right"
            else route.fulfill(
                status=401, content_type="application/problem+json", body='{"status": 401, "title": "No token"}'
            )
        ),
    )
    page.goto(server.url)
    field = page.get_by_label("Token", exact=True)
    expect(field).to_be_focused()
    expect(page.locator("#token-refused")).to_be_hidden()
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-refused")).to_be_visible()
    field.fill("right")
    page.keyboard.press("Enter")
    expect(page.locator(ITEM)).to_have_count(10)
    expect(page.locator("#token-dialog")).to_be_hidden()
    page.reload()
    expect(page.locator(ITEM)).to_have_count(10)
    page.context.close()


def test_everything_of_a_user_is_deleted_after_a_question(page, server):
    server.events("eve", ["m00008"])
    go_to(page, "eve")
    page.get_by_role("button", name="Delete everything of this user").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#person")).to_have_text("eve")
    page.get_by_role("button", name="Delete everything of this user").click()
    with asks(page):
        page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#person")).to_have_text("somebody new")
    assert "eve" not in [one["user"] for one in server.get("/v1/users?limit=100")["users"]]


def test_a_user_without_events_gets_a_list_and_a_taste(page, server):
    with asks(page) as asked:
        page.get_by_label("Choose a user").fill("nobody/yet?")
        page.keyboard.press("Enter")
    assert (asked.request["user"], asked.request["history"]) == ("nobody/yet?", [])
    assert len(asked.result["recommended"]) == 10
    with asks(page) as asked:
        action(page, 0, "less_of").click()
    assert list(profile(server, "nobody%2Fyet%3F").values()) == ["less_of"]
    with asks(page) as asked:
        action(page, 0, "choose").click()
    assert "history" not in asked.request and asked.result["history_items"] == 1


def test_what_the_server_refuses_is_said_and_tried_again(page):
    refusal = json.dumps({"status": 503, "title": "Busy", "detail": "The queue is full.", "request_id": "r7"})
    page.route(
        "**/v1/recommend",
        lambda route: route.fulfill(
            status=503, headers={"Retry-After": "2", "Content-Type": "application/problem+json"}, body=refusal
        ),
    )
    page.get_by_role("button", name="Recommend").click()
    alert = page.locator("#problem")
    expect(alert).to_contain_text("The queue is full. Try again in 2 s. (request r7)")
    page.unroute("**/v1/recommend")
    page.route("**/v1/recommend", lambda route: route.abort())
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_contain_text("cannot be reached")
    page.unroute("**/v1/recommend")
    with asks(page):
        page.get_by_role("button", name="Try again").click()
    expect(alert).to_be_hidden()


def test_markup_in_titles_words_and_ids_is_text(page):
    def with_markup(route) -> None:
        answer = route.fetch()
        fields = answer.json()
        for found in fields.get("results", [{"recommended": fields.get("items", [])}]):
            for item in found["recommended"]:
                item["title"], item["attributes"]["genre"] = MARKUP, MARKUP
        for found in fields.get("explanations", []):
            found["in_words"], found["reasons"] = MARKUP, [[MARKUP, 1.0], [MARKUP, -1.0]]
        route.fulfill(response=answer, json=fields)

    page.route(re.compile("/v1/(recommend|explain|items)"), with_markup)
    page.get_by_label("What would you like?").fill(MARKUP)
    with asks(page):
        page.keyboard.press("Enter")
    expect(page.locator(ITEM).first.get_by_role("heading")).to_contain_text(MARKUP)
    with page.expect_response("**/v1/explain"):
        action(page, 0, "why").click()
    expect(page.locator(".bars .name").first).to_have_text(MARKUP)
    action(page, 0, "why").click()
    with asks(page):
        action(page, 1, "less_of").click()
    expect(page.locator("#toast-text")).to_contain_text(MARKUP)
    expect(page.locator("#taste-words")).to_contain_text(MARKUP)
    page.get_by_label("Add a title to the history").fill("s")
    expect(page.get_by_role("option").first).to_contain_text(MARKUP)
    page.get_by_label("Choose a user").fill(MARKUP)
    with page.expect_response(lambda answer: urllib.parse.quote(MARKUP, safe="") in answer.url):
        page.keyboard.press("Enter")
    expect(page.locator("#person")).to_have_text(MARKUP)
    assert page.title() == "Recommendations - genrec"
    assert page.locator("main img, main b b, section img").count() == 0
    page.unroute_all(behavior="wait")


MEASURE = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const ground = (element) => {
    const color = rgba(getComputedStyle(element).backgroundColor);
    return color[3] === 255 || !element.parentElement ? color : ground(element.parentElement);
  };
  const light = (color) => {
    const parts = color.slice(0, 3).map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 2;
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const all = [...document.body.querySelectorAll("*")].filter(seen);
  const texts = all.filter((e) => own(e) || e.matches("input, select"));
  const rows = texts.map((e) => {
    const style = getComputedStyle(e);
    const lights = [light(rgba(style.color)), light(ground(e))];
    const contrast = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    return { text: e.textContent.trim().slice(0, 40), size: parseFloat(style.fontSize), contrast };
  });
  const targets = all.filter((e) => e.matches("button, input, select, summary")).map((e) => {
    const box = (e.closest("label") ?? e).getBoundingClientRect();
    return { what: e.outerHTML.slice(0, 80), width: box.width, height: box.height };
  });
  const { backgroundColor } = getComputedStyle(document.body);
  return { rows, targets, width: document.documentElement.scrollWidth, ground: backgroundColor };
}
"""


@pytest.mark.parametrize("width", [360, 1280])
def test_everything_fits_is_readable_and_can_be_touched(browser, server, width):
    for page in opened(browser, server, width):
        page.locator("details:not([open]) > summary:visible").evaluate_all("all => all.forEach((one) => one.click())")
        page.get_by_label("What would you like?").fill("something calm, no podcasts")
        with asks(page):
            page.keyboard.press("Enter")
        with asks(page):
            page.locator("#parts button").first.click()
        with asks(page):
            page.get_by_role("button", name="music", exact=True).click()
        with asks(page):
            action(page, 1, "more_of").click()
        with page.expect_response("**/v1/explain"):
            action(page, 0, "why").click()
        expect(page.locator(".bars")).to_be_visible()
        grounds = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = page.evaluate(MEASURE)
            grounds.add(found["ground"])
            assert found["width"] == width, "nothing reaches beyond the screen"
            assert len(found["rows"]) > 100
            assert [row for row in found["rows"] if row["contrast"] < 4.5] == []
            assert [row for row in found["rows"] if row["size"] < 12] == []
            assert [one for one in found["targets"] if min(one["width"], one["height"]) < 24] == []
        assert len(grounds) == 2


def test_every_control_has_a_name_and_every_item_its_own(page):
    page.get_by_text("More filters").click()
    with asks(page):
        action(page, 0, "more_of").click()
    names = [
        line.strip().replace("'", "")
        for line in page.locator("body").aria_snapshot().splitlines()
        if re.match(r"\s*- '?(button|textbox|searchbox|combobox|slider|checkbox|switch|link|heading|list|region)", line)
    ]
    nameless = [line for line in names if not re.search(r'"[^"]+"', line) and not line.startswith("- list")]
    assert len(names) > 60 and nameless == []
    for words in ("More of this", "Less of this", "Never again", "Why", "Add to history"):
        of_items = [line for line in names if line.startswith(f'- button "{words}: ')]
        assert len(of_items) == page.locator(ITEM).count() and len(set(of_items)) == len(of_items)
    for region in ("changes", "toast", "taste-words", "understood-text"):
        assert page.locator(f"#{region}").get_attribute("role") == "status"


def test_the_list_is_reached_by_the_keyboard_alone(page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the list")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#list-title")).to_be_focused()
    for name in ("more_of", "less_of", "blocked", "why", "choose"):
        page.keyboard.press("Tab")
        expect(action(page, 0, name)).to_be_focused()
