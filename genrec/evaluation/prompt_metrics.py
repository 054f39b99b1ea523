"""Whether prompts steer: what tools/evaluate_prompts.py measures, on prompts in words that training did not use.

* share: of the first k items, how many have the value of a prompt, with the prompt and without it; for prompts against
  a value, how many still have it;
* recall of the next item with a prompt that fits it, and with any prompt: what steering gives, and what it costs;
* titles -> items, and items -> titles: exact;
* what is blocked or disliked: how often it is returned (never).
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from genrec import config, files
from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.decoding.text_generation import TextGenerator
from genrec.evaluation import charts
from genrec.input_pipeline import tasks
from genrec.input_pipeline.prompts import HELD_OUT, PromptSampler
from genrec.progress import progress
from genrec.serving.engine import Engine, Options, Recommendations
from genrec.serving.profiles import ITEM, Profile
from genrec.serving.requests import NO_HISTORY, Request, sample_split

FOLDER = "prompts"  # of a work directory
PICTURE = "guidance.svg"
FITTING = "fitting prompts: strength, recall"
CURVE = "any prompt: strength, share, recall"
TOP = 10
BATCH = 128  # requests of a search
SINCE = "2024-01-01"  # of profiles that are made to be asked with


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a split's users were asked, and what came out of it."""

    figures: dict[str, Any]
    text: str
    picture: str  # SVG


class Steering:
    """The prompts for some users of a split, drawn once; then asked at any strength."""

    def __init__(self, loaded: LoadedGenerator, split: str, users: int, beams: int, seed: int = 0):
        """`users` are chosen by the split alone; 0 takes all. Raises DataError for a model that knows no words."""
        if not loaded.prompts:
            raise DataError("the model knows no words: it was trained without prompts (config.prompts.columns)")
        self._loaded_model = loaded
        fields = {field.name for field in dataclasses.fields(config.Prompts)}
        known = {name: value for name, value in loaded.prompts.items() if name in fields}
        self.prompts = PromptSampler(config.Prompts(**known), loaded.dataset.catalogue)
        self.requests = sample_split(loaded.dataset.split(split), users)
        self._random = np.random.default_rng(seed)
        options = Options(top=TOP, beams=beams)
        self._engines = {rules: Engine(loaded, options, BATCH, rules) for rules in (False, True)}

    def ask(self, requests: Sequence[Request], strength: float = 1.0, rules: bool = False) -> list[Recommendations]:
        """Lists for requests; without `rules` the model alone decides what a prompt means."""
        found = []
        for start in progress(range(0, len(requests), BATCH), f"ask at strength {strength:g}"):
            some = list(requests[start : start + BATCH])
            filled = some + some[:1] * (BATCH - len(some))
            found += self._engines[rules].recommend(filled, guidance=strength)[: len(some)]
        return found

    @property
    def writes(self) -> bool:
        """Whether the model writes texts."""
        return self._loaded_model.generates_texts

    def columns(self) -> list[str]:
        """Of the catalogue, about which one can ask for so many items that they fill a list."""
        return [
            name for name, of_value in self.prompts.members.items() if any(len(r) >= TOP for r in of_value.values())
        ]

    def drawn_values(self, name: str) -> list[str]:
        """A value for each user; each value that can fill a list is as likely as any other."""
        values = [value for value, rows in self.prompts.members[name].items() if len(rows) >= TOP]
        return [values[place] for place in self._random.integers(0, len(values), len(self.requests))]

    def prompted(self, name: str, values: Sequence[str], less: bool = False) -> list[Request]:
        """Each user's request with a prompt for, or against, a value, in held-out words."""
        say = self.prompts.negative if less else self.prompts.positive
        return [
            dataclasses.replace(request, prompt=say(name, value, self._random, HELD_OUT))
            for request, value in zip(self.requests, values, strict=True)
        ]

    def fitting(self) -> list[Request]:
        """Each user's request with a prompt for one thing that is true of the item that target."""
        made = []
        for request in self.requests:
            known = [(name, v) for name in self.prompts.values if (v := self.prompts.values[name][request.target])]
            if not known:
                made.append(request)
                continue
            name, value = known[int(self._random.integers(len(known)))]
            if name not in self.prompts.members:  # words of a title
                value = " ".join(value.split()[:2])
            made.append(dataclasses.replace(request, prompt=self.prompts.positive(name, value, self._random, HELD_OUT)))
        return made

    def share(self, name: str, values: Sequence[str], found: Sequence[Recommendations]) -> float:
        """Of the first TOP items of each list, how many have its value of a column."""
        cells = self.prompts.values[name]
        hits = [
            sum(cells[int(item)] == value for item in one.items) / TOP for value, one in zip(values, found, strict=True)
        ]
        return float(np.mean(hits))

    def dominant(self, name: str, found: Sequence[Recommendations]) -> list[str]:
        """The commonest value of each list, which a user may be tired of."""
        cells = self.prompts.values[name]
        lists = [[cells[int(item)] or "" for item in one.items] for one in found]
        return [max(sorted(set(values)), key=values.count) for values in lists]

    def titles(self, items: int) -> dict[str, float]:
        """Recall of items by their titles alone, without a history; of long ones, by as much as training read."""
        tokenizer = self._loaded_model.tokenizer
        asked = []
        for item in self.chosen_items(items):
            read = tokenizer.vocabulary.encode(self.prompts.titles[item])[: tokenizer.longest_prompt]
            asked.append(Request("", NO_HISTORY, int(item), prompt=tokenizer.vocabulary.decode(read)))
        found = self.ask(asked)
        return {f"recall@{k}": recall(asked, found, k) for k in (1, TOP)}

    def texts(self, items: int) -> dict[str, float]:
        """How well titles and attributes are written from semantic IDs, and tastes from histories."""
        writer, chosen = TextGenerator(self._loaded_model), self.chosen_items(items)
        read = [np.array([item]) for item in chosen]
        figures = {}
        for kind, name, text in (
            (tasks.ITEM_TITLE, "title", lambda item: self.prompts.titles[item]),
            (tasks.ITEM_ATTRIBUTES, "attributes", self.prompts.description),
        ):
            figures[f"{name}: token accuracy"] = writer.token_accuracy(kind, read, [text(int(item)) for item in chosen])
        histories = [request.history for request in self.requests][:items]
        said = [self.prompts.taste(history[-self._loaded_model.max_history :]) for history in histories]
        figures["taste: token accuracy"] = writer.token_accuracy(tasks.TASTE, histories, said)
        written = writer.generate(tasks.ITEM_ATTRIBUTES, read[:BATCH])
        normal = self._loaded_model.tokenizer.vocabulary
        exact = [
            text == normal.decode(normal.encode(self.prompts.description(int(item))))
            for text, item in zip(written, chosen[:BATCH], strict=True)
        ]
        figures["attributes: written exactly"] = float(np.mean(exact))
        return figures

    def chosen_items(self, items: int) -> np.ndarray:
        """int64[n]: a fixed choice of catalogue rows."""
        count = len(self.prompts.titles)
        return np.sort(np.random.default_rng(0).choice(count, min(items, count), replace=False))

    def violations(self, unprompted: Sequence[Recommendations]) -> dict[str, int]:
        """How often a list has what its user blocked or dislikes.

        That is the first item of the list that the user was given `unprompted`, and what the list had most of.
        """
        catalogue, asked = self._loaded_model.dataset.catalogue, []
        for request, found in zip(self.requests, unprompted, strict=True):
            first = catalogue.item_ids[int(found.items[0])]
            profile = Profile(request.name).with_entry("blocked", f"{ITEM}={first}", SINCE)
            for kind, name in zip(("dislikes", "blocked"), self.prompts.members, strict=False):
                profile = profile.with_entry(kind, f"{name}={self.dominant(name, [found])[0]}", SINCE)
            asked.append(dataclasses.replace(request, profile=profile))
        found = self.ask(asked)
        denied = [request.profile.denied(catalogue) for request in asked]
        wrong = sum(int(item) in deny for deny, one in zip(denied, found, strict=True) for item in one.items)
        return {"lists": len(found), "items": sum(len(one.items) for one in found), "violations": wrong}


def recall(requests: Sequence[Request], found: Sequence[Recommendations], k: int = TOP) -> float:
    """The share of requests whose next item is among the first k."""
    return float(np.mean([r.target in one.items[:k] for r, one in zip(requests, found, strict=True)]))


def measure(steering: Steering, strengths: Sequence[float], items: int) -> Measured:
    """Everything that the module's docstring lists; the shares at strength 1, the curve at all `strengths`."""
    plain = steering.ask(steering.requests)
    figures: dict[str, Any] = {"users": len(steering.requests)}
    figures["recall without a prompt"] = recall(steering.requests, plain)
    asked, understood, shares = {}, {}, {}
    for name in steering.columns():
        values = steering.drawn_values(name)
        asked[name] = values, steering.prompted(name, values)
        shares[name] = {"unprompted": steering.share(name, values, plain)}
        understood[name] = steering.ask(asked[name][1])
        shares[name]["prompted"] = steering.share(name, values, understood[name])
        shares[name]["prompted, by rule"] = steering.share(name, values, steering.ask(asked[name][1], rules=True))
        tired = steering.dominant(name, plain)
        shares[name]["commonest, unprompted"] = steering.share(name, tired, plain)
        less = steering.prompted(name, tired, less=True)
        shares[name]["commonest, prompted less"] = steering.share(name, tired, steering.ask(less))
    figures["shares"] = shares
    fitting = steering.fitting()
    curve: dict[str, list[tuple[float, ...]]] = {name: [] for name in asked}
    figures[FITTING], figures[CURVE] = [], curve
    for strength in strengths:
        figures[FITTING].append((strength, recall(fitting, steering.ask(fitting, strength))))
        for name, (values, requests) in asked.items():
            found = understood[name] if strength == 1 else steering.ask(requests, strength)
            curve[name].append((strength, steering.share(name, values, found), recall(requests, found)))
    figures["title to item"] = steering.titles(items)
    if steering.writes:
        figures["texts"] = steering.texts(items)
    figures["blocked or disliked"] = steering.violations(plain)
    return Measured(figures, _table(figures), _picture(figures))


def evaluate(
    workdir: epath.PathLike,
    split: str,
    checkpoint: str,
    users: int,
    beams: int,
    strengths: Sequence[float],
    items: int,
    show: Callable[[str], None] = print,
) -> None:
    """Measures a checkpoint, writes WORKDIR/prompts, shows the table. For errors see `trained.load` and `Steering`."""
    workdir = epath.Path(workdir)
    loaded = loaded_model.load(workdir, checkpoint)
    logging.info("asking for prompts at step %d, %d beams", loaded.step, beams)
    measured = measure(Steering(loaded, split, users, beams), strengths, items)
    folder = workdir / FOLDER
    figures = {"step": loaded.step, "beams": beams, "split": split, **measured.figures}
    files.write_text(folder / PICTURE, measured.picture)
    files.write_text(folder / f"{split}.txt", measured.text)
    files.write_text(folder / f"{split}.json", json.dumps(figures, indent=1))
    show(measured.text)
    show(f"the curve is {folder / PICTURE}")


def _table(figures: dict[str, Any]) -> str:
    shares = figures["shares"]
    columns = list(next(iter(shares.values()), {}))
    lines = [
        f"{figures['users']:,} users; recall@{TOP} without a prompt {figures['recall without a prompt']:.4f}",
        "",
        f"share of the first {TOP}, held-out words".ljust(34) + "".join(f"{name:>24}" for name in columns),
    ]
    lines += [f"  {name:32}" + "".join(f"{row[c]:24.3f}" for c in columns) for name, row in shares.items()]
    lines += ["", f"a prompt for something that is true of the next item: strength, recall@{TOP}"]
    lines += ["  " + "".join(f"{value:9.3f}" for value in point) for point in figures[FITTING]]
    for name, points in figures[CURVE].items():
        lines += ["", f"a prompt for any {name}: strength, share, recall@{TOP}"]
        lines += ["  " + "".join(f"{value:9.3f}" for value in point) for point in points]
    lines.append("")
    for title in ("title to item", "texts", "blocked or disliked"):
        for name, value in figures.get(title, {}).items():
            lines.append(f"{title}, {name}: {value:.3f}" if isinstance(value, float) else f"{title}, {name}: {value:,}")
    return "\n".join(lines) + "\n"


def _picture(figures: dict[str, Any]) -> str:
    """Share against recall, a line for each column; where prompts are about words of titles, recall by strength."""
    axes = f"recall@{TOP} of the next item", f"share of the first {TOP}"
    series = {name: [point[2:0:-1] for point in points] for name, points in figures[CURVE].items()}
    if not series:
        axes, series = ("guidance strength", axes[0]), {"prompts that fit": figures[FITTING]}
    title = f"{axes[1].capitalize()} against {axes[0]}"
    return charts.image(charts.lines(series, title, *axes), list(series))
