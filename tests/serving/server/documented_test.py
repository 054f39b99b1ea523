"""The calls of docs/serving.md are answered as it says."""

import json
import re
import shlex
from pathlib import Path

from stub_engine import serving

GUIDE = Path(__file__).parents[3] / "docs" / "serving.md"
ITEMS = {"m00005": "i0", "p01201": "i1", "m00007": "i2", "p01202": "i3"}  # of the guide -> of the engine of the tests


def calls() -> list[tuple[str, str, object]]:
    """Returns method, path and body of each call of the guide, in its order."""
    found = []
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for command in re.split(r"\n(?=curl )", "\n".join(block for block in blocks if "$URL" in block)):
        words = shlex.split(command)
        (url,) = (word for word in words if word.startswith("$URL"))
        text = words[words.index("--json") + 1] if "--json" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "GET" if text is None else "POST"
        for item, own in ITEMS.items():
            text = text and text.replace(f'"{item}"', f'"{own}"')
        found.append((method, url.removeprefix("$URL"), text and json.loads(text)))
    return found


def fields(value: object) -> object:
    """Returns the names of objects and of those within them, without values."""
    if isinstance(value, dict):
        return {name: fields(one) for name, one in value.items()}
    return [fields(one) for one in value[:1]] if isinstance(value, list) else None


def test_the_calls_of_the_guide_are_answered(tmp_path):
    with serving(f"sqlite:///{tmp_path}/store.sqlite") as served:
        answers = [(path, served.client.request(method, path, json=body)) for method, path, body in calls()]
    assert len(answers) >= 10
    assert {path: answer.text for path, answer in answers if answer.status_code >= 300} == {}
    # The answer that is printed has the fields of a real one, apart from attributes, which are the catalogue's.
    (printed,) = re.findall(r"```json\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    shown, real = fields(json.loads(printed)), fields(answers[0][1].json())
    for one in (shown, real):
        one["results"][0]["recommended"][0]["attributes"] = None
    assert shown == real
