"""Everything printed goes through one function, which a terminal cannot obey."""

import ast
import json
import logging
import sys
from pathlib import Path

import pytest

from genrec import printing, tables

ROOT = Path(__file__).parents[1]
SEQUENCES = ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b31m", "\x00", "\x7f", "\u202e", "\u2066", "\ud800", "\x08"]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=ascii)
def test_controls_are_replaced_wherever_they_are_shown(sequence, capsys):
    printing.show(f"a{sequence}b\n\tc")
    shown = capsys.readouterr().out
    assert shown.startswith("a�") and shown.endswith("b\n\tc\n") and sequence not in shown
    assert sequence not in printing.one_line(f"a{sequence}b") and sequence not in tables.text([[f"a{sequence}b"]])
    entry = logging.LogRecord("name", logging.INFO, "path", 1, "read %s", (f"a{sequence}b",), None)
    assert printing.clean_log_entry(entry) and sequence not in entry.getMessage()


def test_texts_of_all_languages_stay_as_they_are(capsys):
    text = "Ünïcode 漢字 עברית \u200f me\u200cjoin 👩\u200d🚀 e\u0301"
    printing.show(text)
    assert capsys.readouterr().out == f"{text}\n" and printing.one_line(text) == text


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\t", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_a_title_of_several_lines_takes_one(separator):
    assert printing.one_line(f"a{separator}b") == "a b"
    assert tables.text([[f"a{separator}b", "c"], ["d", "e"]], align="l").splitlines() == ["a b  c", "d    e"]


def test_json_keeps_every_character_and_is_shown_unchanged(capsys):
    value = {"title": "".join(SEQUENCES) + "ü\n\t"}
    printing.show(printing.escape_json(json.dumps(value, ensure_ascii=False)))
    shown = capsys.readouterr().out
    assert json.loads(shown) == value and "ü" in shown and printing.clean(shown) == shown


def test_input_that_is_no_text_is_read_with_replacements(tmp_path, monkeypatch):
    (tmp_path / "typed").write_bytes(b"caf\xe9\n")
    with (tmp_path / "typed").open(encoding="utf-8") as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        printing.replace_undecodable_input()
        assert input() == "caf�"


def test_nothing_else_prints():
    printers = [
        str(path.relative_to(ROOT))
        for folder in ("genrec", "launch", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and node.id == "print"
    ]
    assert printers == ["genrec/printing.py"]


def test_numbers_of_things_agree_with_their_nouns():
    assert [printing.counted(number, "entry") for number in (0, 1, 2000)] == ["0 entries", "1 entry", "2,000 entries"]
    assert [printing.counted(number, "item") for number in (1, 2)] == ["1 item", "2 items"]
