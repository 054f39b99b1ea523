"""Phrases for several values, and against some."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.evaluation import paraphrases
from genrec.evaluation.paraphrases import Asked, Paraphrase, ValueSampler
from genrec.input_pipeline.prompts import HELD_OUT, TRAINING, PromptSampler

FILE = Path(__file__).with_name("paraphrases.txt")
COLUMNS = {"media_type": "kind", "genre": "about", "topic": "about", "mood": "mood", "artist": "by"}


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(0)
    media_type = random.choice(["music", "podcast"], 200)
    table = {
        "media_type": media_type,
        "genre": [f"{kind} {random.choice(['jazz', 'metal'])}" for kind in media_type],  # tells the medium
        "topic": random.choice(["ships", "bees"], 200),
        "mood": [[str(one)] if one != "none" else [] for one in random.choice(["calm", "dark", "none"], 200)],
        "artist": random.choice(["Ada Costa", "Uma Quinn"], 200),
    }
    catalogue = Catalogue(pa.table({"item_id": [str(n) for n in range(200)], **table}), ())
    return PromptSampler(config.Prompts(columns=tuple(f"{name}:{role}" for name, role in COLUMNS.items())), catalogue)


def test_no_template_wrote_the_paraphrases(prompts):
    phrases = paraphrases.read(FILE, prompts)
    assert len({phrase.text for phrase in phrases}) == len(phrases) >= 60
    assert {name for phrase in phrases for name in phrase.columns[0]} == set(COLUMNS)
    assert {name for phrase in phrases for name in phrase.columns[1]} >= {"media_type", "genre", "mood", "artist"}
    templates = set()
    for some in (TRAINING, HELD_OUT):
        templates |= {
            *some.negative,
            *some.combined,
            *some.similar,
            *(one for of in some.positive.values() for one in of),
        }
    for phrase in phrases:
        assert re.sub(r"\{[^}]*\}", "{}", phrase.text) not in templates, phrase


def test_values_take_their_places():
    phrase = Paraphrase("a {one media_type} of {genre}, {media_type} not by {!artist}")
    assert phrase.columns == (("media_type", "genre"), ("artist",))
    assert phrase.label == "media_type + genre, not artist"
    asked = Asked({"media_type": "podcast", "genre": "true_crime"}, {"artist": "Ada"})
    assert phrase.filled(asked, COLUMNS) == "a podcast of true crime, podcasts not by Ada"


@pytest.mark.parametrize("line", ["without any", "a {color}", "a {two genre}", "{genre} {", "{title}"])
def test_phrases_that_mean_nothing_are_refused(prompts, tmp_path, line):
    (tmp_path / "phrases.txt").write_text(f"# a comment\n\nmore {{genre}}\n{line}\n")
    with pytest.raises(DataError, match="line 4"):
        paraphrases.read(tmp_path / "phrases.txt", prompts)


def test_a_missing_file_is_refused(prompts, tmp_path):
    with pytest.raises(DataError, match="phrases.txt"):
        paraphrases.read(tmp_path / "phrases.txt", prompts)


def test_drawn_values_fill_a_list_and_follow_from_no_other(prompts):
    sampler, random = ValueSampler(prompts, 10), np.random.default_rng(0)
    for _ in range(20):
        asked = sampler.draw(("media_type", "mood"), ("artist",), random)
        rows = np.flatnonzero(sampler.fulfilling(asked))
        assert len(rows) >= 10
        for name in ("media_type", "mood", "artist"):
            values = [prompts.values[name][row] for row in rows]
            assert all(
                (asked.wanted[name] in one) if name in asked.wanted else (asked.refused[name] not in one)
                for one in values
            )
    assert sampler.draw(("media_type", "genre"), (), random) is None
    assert ValueSampler(prompts, 201).draw(("mood",), (), random) is None


def test_held_out_phrases_have_two_values(prompts):
    phrases = paraphrases.held_out(prompts)
    assert all(len(phrase.columns[0]) == 2 and not phrase.columns[1] for phrase in phrases["two values"])
    assert all([len(columns) for columns in phrase.columns] == [1, 1] for phrase in phrases["a value, not another"])
    assert Paraphrase("could you find me {mood} about {genre}?") in phrases["two values"]
