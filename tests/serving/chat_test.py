import numpy as np
import pytest

from genrec.decoding import loaded_model
from genrec.serving.chat import Conversation
from genrec.serving.engine import Options, Search
from genrec.serving.requests import Request


@pytest.fixture(scope="module")
def search(listener):
    return Search(loaded_model.load(listener), Options(top=5, beams=20))


def talk(search, *lines):
    """What is said after each line, the greeting first, and the profile at the end."""
    waiting, answers = iter(lines), []

    def ask(prompt):
        answers.append([])
        for line in waiting:
            return line
        raise EOFError

    def say(text):
        (answers[-1] if answers else greeting).append(text)

    greeting = []
    profile = Conversation(search, Request("u", np.array([3, 4, 5])), ask, say).run()
    return ["\n".join(answer) for answer in (greeting, *answers)], profile


def test_prompt_after_prompt_tells_what_changed_and_why(search):
    answers, _ = talk(search, "no music", "music", ":prompt", ":quit")
    media_type = dict(zip(search.catalogue.titles, search.catalogue.column("media_type").to_pylist(), strict=True))

    def listed(answer):
        lines = [line for line in answer.splitlines() if line[:3].strip().isdigit() and line[3:5] == ". "]
        return [line[5:].partition("  ")[0] for line in lines]

    assert len(listed(answers[0])) == 5 and "3 items heard, no prompt" in answers[0] and "why the first:" in answers[0]
    assert "as a rule: media_type != music" in answers[1]
    assert all(media_type[title] != "music" for title in listed(answers[1]))
    assert all(media_type[title] == "music" for title in listed(answers[2]))
    assert "  new" in answers[2] and "gone: 5" in answers[2]
    assert listed(answers[3]) == listed(answers[0])


def test_what_is_heard_joins_the_history_and_what_is_blocked_does_not_come_back(search):
    answers, profile = talk(search, ":hear 1", ":blocked media_type=podcast", ":why 1", ":profile")
    assert "4 items heard" in answers[1]
    assert profile.entries[0].about == "media_type=podcast" and "are never returned" in answers[4]
    assert "heard 1 ago" in answers[3]


def test_an_interrupt_in_the_middle_of_a_search_keeps_the_profile(search, monkeypatch):
    asked = []

    def interrupted(self, requests, wanted):
        asked.append(requests[0].prompt)
        if requests[0].prompt:
            raise KeyboardInterrupt
        return original(self, requests, wanted)

    original = Search.__call__
    monkeypatch.setattr(Search, "__call__", interrupted)
    _, profile = talk(search, ":likes media_type=podcast", "calm", "never asked")
    assert asked == ["", "", "calm"] and [entry.about for entry in profile.entries] == ["media_type=podcast"]


def test_what_cannot_be_is_said_and_the_conversation_goes_on(search):
    answers, profile = talk(
        search,
        ":hear 9",
        ":hear x",
        ":likes color=red",
        ":tell tier=gold",
        ":dance",
        "y" * 5000,
        ":forget a=b",
        "calm",
    )
    expected = ["1 to 5", "1 to 5", "no column 'color'", "'tier'", "Say what you would", "Shorten", "says nothing"]
    for answer, text in zip(answers[1:], expected, strict=False):
        assert text in answer
    assert '"calm"' in answers[8] and profile.entries == ()
