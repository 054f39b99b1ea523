"""The Python example of the README runs as printed."""

import re
from pathlib import Path

import tiny_training

README = Path(__file__).parents[2] / "README.md"


def test_the_example_recommends_items_with_titles(untrained, tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert example.count("runs/quickstart") == 1
    assert len([line for line in example.splitlines() if line]) <= 10
    untrained(tmp_path, tiny_training.EXPERIMENT)
    exec(example.replace("runs/quickstart", str(tmp_path)), {})
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert len(lines) == 5 and all(re.fullmatch(r" *-\d+\.\d\d  \S.*", line) for line in lines)
