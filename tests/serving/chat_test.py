import re

import numpy as np
import pytest

from genrec.decoding import loaded_model
from genrec.serving.chat import Conversation
from genrec.serving.engine import Engine, Options
from genrec.serving.profile_entries import ProfileError
from genrec.serving.requests import Request


@pytest.fixture(scope="module")
def engine(listener):
    return Engine(loaded_model.load(listener), Options(top=5, beams=20))


def talk(engine, *lines, save=lambda profile: None):
    """Returns the output after each line, the greeting first, and the profile at the end."""
    waiting, answers = iter(lines), []

    def read(text):
        answers.append([])
        for line in waiting:
            return line
        raise EOFError

    def write(text):
        (answers[-1] if answers else greeting).append(text)

    greeting = []
    profile = Conversation(engine, Request("u", np.array([3, 4, 5])), read, write, save=save).run()
    return ["\n".join(answer) for answer in (greeting, *answers)], profile


def test_each_turn_shows_the_changes_of_the_list_and_reasons(engine):
    answers, _ = talk(engine, "no music", "music", ":prompt", ":quit")
    media_type = dict(zip(engine.catalogue.titles, engine.catalogue.column("media_type").to_pylist(), strict=True))

    def listed(answer):
        lines = [line for line in answer.splitlines() if line[:3].strip().isdigit() and line[3:5] == ". "]
        return [line[5:].partition("  ")[0] for line in lines]

    assert len(listed(answers[0])) == 5 and "3 items played, no prompt" in answers[0] and "why the first:" in answers[0]
    assert "not: music" in answers[1]
    assert all(media_type[title] != "music" for title in listed(answers[1]))
    assert all(media_type[title] == "music" for title in listed(answers[2]))
    assert "  new" in answers[2] and "gone: 5" in answers[2]
    assert listed(answers[3]) == listed(answers[0])


def test_commands_extend_history_and_profile(engine):
    answers, profile = talk(engine, ":played 1", ":blocked for a week media_type=podcast", ":why 1", ":profile")
    assert "4 items played" in answers[1]
    assert profile.entries[0].about == "media_type=podcast" and "never returned" in answers[4]
    assert "until" in answers[4] and profile.entries[0].until is not None
    assert "played 1 ago" in answers[3]


def test_an_interrupt_during_a_search_keeps_the_profile(engine, monkeypatch):
    asked = []

    def interrupted(self, requests, item_filter):
        asked.append(requests[0].prompt)
        if requests[0].prompt:
            raise KeyboardInterrupt
        return original(self, requests, item_filter)

    original = Engine.recommend
    monkeypatch.setattr(Engine, "recommend", interrupted)
    _, profile = talk(engine, ":likes media_type=podcast", "calm", "never asked")
    assert asked == ["", "", "calm"] and [entry.about for entry in profile.entries] == ["media_type=podcast"]


def test_errors_are_shown_and_the_conversation_continues(engine):
    answers, profile = talk(
        engine,
        ":played 9",
        ":played x",
        ":played ²",
        ":played " + "9" * 5000,
        ":likes color=red",
        ":tell tier=gold",
        ":dance",
        "y" * 5000,
        ":forget a=b",
        "calm",
    )
    expected = ["1 to 5", "1 to 5", "1 to 5", "1 to 5", "'color'", "'tier'", ":quit", "Shorten", "'a=b'"]
    for answer, text in zip(answers[1:], expected, strict=False):
        assert text in answer
    assert '"calm"' in answers[10] and profile.entries == ()


def test_a_value_of_the_context_that_training_did_not_see_is_told(engine):
    feature = next(one for one in engine.loaded.tokenizer.context.features if not one.edges)
    answers, _ = talk(engine, f":tell {feature.name}=never seen", f":tell {feature.name}={feature.values[0]}")
    assert "'never seen' did not occur in training" in answers[1] and "did not occur" not in answers[2]


def test_each_change_of_the_profile_is_saved_at_once(engine):
    saved = []

    def save(profile):
        saved.append([entry.about for entry in profile.entries])
        if len(saved) == 3:
            raise ProfileError("cannot be written")

    lines = ":blocked media_type=podcast", "calm", ":blocked media_type=podcasts", ":likes mood=calm"
    answers, _ = talk(engine, *lines, ":forget mood=calm", save=save)
    assert saved == [["media_type=podcast"], ["media_type=podcast", "mood=calm"], ["media_type=podcast"]]
    assert "no effect" in answers[3] and "'podcast'" in answers[3] and "cannot be written" in answers[5]


def test_a_line_that_is_no_text_is_ignored_with_a_message(engine):
    answers, profile = talk(engine, ":blocked media_type=podcast", "caf\ufffd", "calm")
    assert "UTF-8" in answers[2] and len(answers[2].splitlines()) == 1
    assert '"calm"' in answers[3] and [entry.about for entry in profile.entries] == ["media_type=podcast"]


def test_titles_cannot_add_lines_or_move_the_cursor(engine, monkeypatch):
    titles = [f"{title}\n  1. \r\x1b[A{title}" for title in engine.catalogue.titles]
    monkeypatch.setitem(vars(engine.catalogue), "titles", titles)
    answers, _ = talk(engine, "music", ":why 1")
    for answer in answers:
        assert not set(answer) & {"\r", "\x1b"}
        assert sum(line.startswith("  1. ") for line in answer.splitlines()) <= 1


def listed(answer):
    return re.findall(r"^ +\d+\. (.*?)(?:  (?:new|up|down).*)?$", answer, re.MULTILINE)


def test_lines_refine_the_prompt_and_undo_goes_back(engine):
    answers, _ = talk(engine, "podcasts", "something calm", "undo", ":undo", "undo", "audiobooks")
    assert '"podcasts" - "something calm"' in answers[2] and "only podcasts; taste: calm" in answers[2]
    assert listed(answers[3]) == listed(answers[1]) and '"podcasts"' in answers[3]
    assert listed(answers[4]) == listed(answers[0]) and "no prompt" in answers[4]
    assert "nothing to undo" in answers[5]
    assert "only audiobooks" in answers[6]


def test_who_is_not_wanted_again_is_not_returned(engine):
    answers, _ = talk(engine, "music", "not him again", "not 2", ":undo", "not that one", "why not her?")
    catalogue = engine.catalogue
    artist = dict(zip(catalogue.titles, catalogue.column("artist").to_pylist(), strict=True))
    unwanted = artist[listed(answers[1])[0]]
    assert f"only music; not: {unwanted}" in answers[2] and unwanted in map(artist.get, listed(answers[1]))
    assert unwanted not in map(artist.get, listed(answers[2]) + listed(answers[3]))
    assert listed(answers[2])[1] not in listed(answers[3])
    assert listed(answers[4]) == listed(answers[2]) and listed(answers[2])[0] not in listed(answers[5])
    assert artist[listed(answers[5])[0]] in answers[6] and "in the list" in answers[6]


def test_several_items_are_turned_down_at_once(engine):
    answers, _ = talk(engine, "music", "not 2 and 4", "no the last one, please", "not 9")
    before, after, last = map(listed, answers[1:4])
    assert before[0] == after[0] and not {before[1], before[3]} & set(after) and "1 to 5" in answers[4]
    last_title = after[-1]
    assert last_title not in last


def test_that_is_the_first_of_each_new_list_unless_one_was_explained(engine):
    answers, _ = talk(
        engine, "music", "not that one", "not that one", "why the second?", "not that one", "not that one"
    )
    lists = [listed(answer) for answer in answers]
    assert lists[1][0] not in lists[2] and lists[2][0] not in lists[3]
    assert lists[3][1] in answers[4] and lists[3][1] not in lists[5] and lists[3][0] == lists[5][0]
    assert lists[5][0] not in lists[6]


@pytest.mark.parametrize(
    ("line", "understood"),
    [
        ("podcasts, I hate them", "not: podcasts"),
        ("audiobooks: can't stand them", "not: audiobooks"),
        ("play music for her", "only music"),
    ],
)
def test_a_pronoun_stands_for_people_only_where_it_can(engine, line, understood):
    assert f"understood: {understood}\n" in talk(engine, line)[0][1]


def test_lines_that_name_nothing_are_said_to(engine):
    answers, _ = talk(engine, "thanks", "calm", "3", "why?", "why not?", "not 2")
    assert "understood: nothing" in answers[1] and "no part: 'thanks'" in answers[2] and "taste: calm" in answers[2]
    assert "not 3" in answers[3] and listed(answers[2])[0] in answers[4] and "why not what" in answers[5]
    assert "1 item turned down" in answers[6]


def test_them_that_may_be_items_or_people_is_asked_for(engine):
    answers, _ = talk(engine, "podcasts", "not them again", ":prompt", "not them again")
    assert "whom or what" in answers[2] and "understood: not: " in answers[4]


def test_parts_of_the_prompt_are_switched_off_and_on(engine):
    answers, _ = talk(
        engine, "podcasts", "no audiobooks", ":off 1", "calm", ":on 1", ":rules off", ":off 9", ":rules x"
    )
    assert "only podcasts; not: audiobooks" in answers[2]
    assert "understood: not: audiobooks; taste: podcasts" in answers[3]
    assert "understood: not: audiobooks; taste: podcasts, calm" in answers[4]
    assert "understood: only podcasts; not: audiobooks; taste: calm" in answers[5]
    assert "understood: taste: podcasts, no audiobooks, calm" in answers[6]
    assert "1 to 3" in answers[7] and ":rules on" in answers[8]


def test_why_not_is_answered_from_rules_and_scores(engine):
    titles, media = engine.catalogue.titles, engine.catalogue.column("media_type").to_pylist()
    genre = engine.catalogue.column("genre")[0].as_py()
    music = titles[media.index("music")]
    answers, _ = talk(
        engine, "no music", f"why not {music}?", "why not music?", ":prompt", ":why_not xyz", f"why not {genre}?"
    )
    assert "excluded by your words 'no music'" in answers[2] and "excluded by your words 'no music'" in answers[3]
    first, last = listed(answers[4])[0], engine.recommend([Request("u", np.array([3, 4, 5]))])[0].scores[-1]
    assert "'xyz'" in answers[5] and ("in the list" in answers[6] or f"{last:.2f}" in answers[6])
    answers, _ = talk(
        engine, f"why not {first}?", f":blocked item={engine.catalogue.item_ids[7]}", f":why_not {titles[7]}"
    )
    assert "in the list, number 1" in answers[1] and "your profile" in answers[3]


def test_rules_that_leave_too_few_items_offer_a_list_without_one(engine):
    catalogue = engine.catalogue
    artists, media = catalogue.column("artist").to_pylist(), catalogue.column("media_type").to_pylist()
    counts = {artist: artists.count(artist) for artist in artists}
    artist = min(counts, key=counts.get)
    asked = f"{media[artists.index(artist)]} by {artist}"
    answers, _ = talk(engine, asked)
    assert counts[artist] < 5 and f"\n{counts[artist]} item" in answers[1] and ":off 2" in answers[1]
