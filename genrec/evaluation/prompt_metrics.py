"""Metrics of prompts whose wording was held out from training.

* share: of the first TOP items of each list, how many have the value that the prompt asks for, with and without the
  prompt; for prompts against a value, how many still have it, as the model hears the prompt and with a negative prompt;
* the same for several values at once, and for paraphrases from a file;
* recall of the target with a prompt that is true of it, and with any prompt, over the strength of guidance;
* text tasks: items from their titles, and titles and attributes from items, exactly;
* violations: how often a list has an item that its user blocked or dislikes.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from genrec import charts, config, files, printing, tables
from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.decoding.text_generation import TextGenerator
from genrec.evaluation import paraphrases, results
from genrec.evaluation.paraphrases import Asked, Paraphrase, ValueSampler
from genrec.evaluation.profile_checks import DenialOracle
from genrec.input_pipeline import tasks
from genrec.input_pipeline.prompts import HELD_OUT, PromptSampler
from genrec.progress import progress
from genrec.serving.engine import Engine, Options, Recommendations
from genrec.serving.profile_entries import ITEM
from genrec.serving.profiles import Profile
from genrec.serving.requests import NO_HISTORY, Request, sample_split

FOLDER = "prompts"  # of a work directory
PICTURE = "guidance.svg"
FITTING = "fitting prompts: strength, recall"
CURVE = "any prompt: strength, share, recall"
SEVERAL = "phrases"
AFTER = ("unprompted", "prompted", "and negative prompt")
NEGATIVE, RULES = "negative prompts", "rules"  # what decides beside the model
TOP = 10
BATCH = 128  # requests of a search
SINCE = "2024-01-01"  # date of the entries of profiles


class PromptEvaluator:
    """Requests of users of a split, with prompts that are drawn once and can be answered at any strength."""

    def __init__(
        self,
        loaded: LoadedGenerator,
        split: str,
        users: int,
        beams: int,
        exclude_history: bool = False,
        seed: int = 0,
    ):
        """`users` are a fixed choice of the split; 0 takes all. `exclude_history` is that of config.Evaluation.

        Raises DataError for a model that takes no prompts.
        """
        vocabulary = loaded.tokenizer.vocabulary
        if not loaded.prompts or vocabulary is None:
            raise DataError("this model takes no prompts. Train it with prompts.columns (config.prompts.columns).")
        self._loaded_model, self._vocabulary = loaded, vocabulary
        fields = {field.name for field in dataclasses.fields(config.Prompts)}
        known = {name: value for name, value in loaded.prompts.items() if name in fields}
        self.prompts = PromptSampler(config.Prompts(**known), loaded.dataset.catalogue)
        self.requests = sample_split(loaded.dataset.split(split), users)
        self._random = np.random.default_rng(seed)
        options = Options(top=TOP, beams=beams, exclude_history=exclude_history)
        searcher = loaded.searcher(BATCH, beams, TOP)  # of all: each search is compiled once
        self._engines = {
            "": Engine(loaded, options, BATCH, rules=False, negative_prompts=False, searcher=searcher),
            NEGATIVE: Engine(loaded, options, BATCH, rules=False, searcher=searcher),
            RULES: Engine(loaded, options, BATCH, searcher=searcher),
        }
        self.sampler = ValueSampler(self.prompts, TOP)

    def recommend(self, requests: Sequence[Request], strength: float = 1.0, beside: str = "") -> list[Recommendations]:
        """Returns a list for each request.

        The model alone decides what a prompt means, or negative prompts do too (`beside` NEGATIVE), and rules (RULES).
        """
        found = []
        for start in progress(range(0, len(requests), BATCH), f"prompts at strength {strength:g}"):
            some = list(requests[start : start + BATCH])
            filled = some + some[:1] * (BATCH - len(some))
            found += self._engines[beside].recommend(filled, guidance=strength)[: len(some)]
        return found

    @property
    def generates_texts(self) -> bool:
        """True if the model was trained to generate texts."""
        return self._loaded_model.generates_texts

    def columns(self) -> list[str]:
        """Returns the columns that have a value with enough items to fill a list."""
        return [
            name for name, of_value in self.prompts.members.items() if any(len(r) >= TOP for r in of_value.values())
        ]

    def sample_values(self, name: str) -> list[str]:
        """Returns a value for each user, drawn uniformly from those that can fill a list."""
        values = [value for value, rows in self.prompts.members[name].items() if len(rows) >= TOP]
        return [values[place] for place in self._random.integers(0, len(values), len(self.requests))]

    def with_prompts(self, name: str, values: Sequence[str], less: bool = False) -> list[Request]:
        """Returns each user's request with a prompt for, or with `less` against, a value of a column."""
        say = self.prompts.negative if less else self.prompts.positive
        return [
            dataclasses.replace(request, prompt=say(name, value, self._random, HELD_OUT))
            for request, value in zip(self.requests, values, strict=True)
        ]

    def with_fitting_prompts(self) -> list[Request]:
        """Returns each user's request with a prompt for one attribute of the target, where it has any."""
        made = []
        for request in self.requests:
            assert request.target is not None, "requests of a split have a target"
            known = [(name, value) for name, cells in self.prompts.values.items() for value in cells[request.target]]
            if not known:
                made.append(request)
                continue
            name, value = known[int(self._random.integers(len(known)))]
            if name not in self.prompts.members:  # words of a title
                value = " ".join(value.split()[:2])
            made.append(dataclasses.replace(request, prompt=self.prompts.positive(name, value, self._random, HELD_OUT)))
        return made

    def share(self, name: str, values: Sequence[str], found: Sequence[Recommendations]) -> float:
        """Returns the share of the first TOP items of each list that have its value of a column."""
        cells = self.prompts.values[name]
        hits = [
            sum(value in cells[int(item)] for item in one.items) / TOP for value, one in zip(values, found, strict=True)
        ]
        return float(np.mean(hits))

    def phrase_shares(
        self, phrases: Sequence[Paraphrase], unprompted: Sequence[Recommendations]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the shares of lists that fulfill phrases, of which each user gets one in turn, and those by phrase.

        Refused alone is the most frequent value of the user's list, and the shares are those of the items that still
        have it. Phrases for which no values fill a list are left out; if all are, there are no shares.
        """
        requests, asked, before, texts, roles = [], [], [], [], dict(self.prompts.columns)
        for number, (request, listed) in enumerate(zip(self.requests, unprompted, strict=True)):
            phrase = phrases[number % len(phrases)]
            wanted, refused = phrase.columns
            if wanted:
                values = self.sampler.draw(wanted, refused, self._random)
            else:
                values = Asked({}, {name: self.most_frequent(name, [listed])[0] for name in refused})
            if values is not None:
                requests.append(dataclasses.replace(request, prompt=phrase.filled(values, roles)))
                asked.append(values)
                before.append(listed)
                texts.append(phrase.text)
        if not requests:
            return {"lists": 0}, {}
        holds = [self.sampler.fulfilling(one) == bool(one.wanted) for one in asked]

        def shares(found: Sequence[Recommendations]) -> np.ndarray:
            return np.array([of[one.items].sum() / TOP for of, one in zip(holds, found, strict=True)])

        heard = shares(self.recommend(requests))
        figures = {"lists": len(requests), "unprompted": shares(before).mean(), "prompted": heard.mean()}
        if any(one.refused for one in asked):
            figures["and negative prompt"] = shares(self.recommend(requests, beside=NEGATIVE)).mean()
        by_phrase = {text: heard[[one == text for one in texts]].mean() for text in dict.fromkeys(texts)}
        return {name: float(value) for name, value in figures.items()}, by_phrase

    def most_frequent(self, name: str, found: Sequence[Recommendations]) -> list[str]:
        """Returns the most frequent value of a column in each list."""
        cells = self.prompts.values[name]
        lists = [[value for item in one.items for value in cells[int(item)] or ("",)] for one in found]
        return [max(sorted(set(values)), key=values.count) for values in lists]

    def title_recall(self, items: int) -> dict[str, float]:
        """Returns the recall of items whose title is the prompt, without a history.

        Titles are cut to the longest prompt of the training.
        """
        vocabulary, longest, requests = self._vocabulary, self._loaded_model.tokenizer.longest_prompt, []
        for item in self.sample_items(items):
            read = vocabulary.encode(self.prompts.titles[item])[:longest]
            requests.append(Request("", NO_HISTORY, int(item), prompt=vocabulary.decode(read)))
        found = self.recommend(requests)
        return {f"recall@{k}": recall(requests, found, k) for k in (1, TOP)}

    def text_accuracy(self, items: int) -> dict[str, float]:
        """Returns how well titles and attributes are generated from semantic IDs, and tastes from histories."""
        generator, chosen = TextGenerator(self._loaded_model), self.sample_items(items)
        read = [np.array([item]) for item in chosen]
        figures = {}
        for kind, name, text in (
            (tasks.ITEM_TITLE, "title", lambda item: self.prompts.titles[item]),
            (tasks.ITEM_ATTRIBUTES, "attributes", self.prompts.description),
        ):
            figures[f"{name}: token accuracy"] = generator.token_accuracy(
                kind, read, [text(int(item)) for item in chosen]
            )
        histories = [request.history for request in self.requests][:items]
        tastes = [self.prompts.taste(history[-self._loaded_model.max_history :]) for history in histories]
        figures["taste: token accuracy"] = generator.token_accuracy(tasks.TASTE, histories, tastes)
        generated = generator.generate(tasks.ITEM_ATTRIBUTES, read[:BATCH])
        exact = [
            text == self._vocabulary.decode(self._vocabulary.encode(self.prompts.description(int(item))))
            for text, item in zip(generated, chosen[:BATCH], strict=True)
        ]
        figures["attributes: written exactly"] = float(np.mean(exact))
        return figures

    def sample_items(self, items: int) -> np.ndarray:
        """Returns int64[n], a fixed choice of catalogue rows."""
        count = len(self.prompts.titles)
        return np.sort(np.random.default_rng(0).choice(count, min(items, count), replace=False))

    def violations(self, unprompted: Sequence[Recommendations]) -> dict[str, int]:
        """Returns how many items of the lists their users blocked or dislike.

        Each user blocks the first item of the list that was recommended `unprompted`, and dislikes or blocks the most
        frequent values of that list.
        """
        catalogue = self._loaded_model.dataset.catalogue
        profiles = []
        for request, one in zip(self.requests, unprompted, strict=True):
            first = catalogue.item_ids[int(one.items[0])]
            profile = Profile(request.name).with_entry("blocked", f"{ITEM}={first}", SINCE)
            for kind, name in zip(("dislikes", "blocked"), self.prompts.members, strict=False):
                profile = profile.with_entry(kind, f"{name}={self.most_frequent(name, [one])[0]}", SINCE)
            profiles.append(profile)
        found = self.recommend(
            [dataclasses.replace(one, profile=profile) for one, profile in zip(self.requests, profiles, strict=True)],
            beside=NEGATIVE,
        )
        oracle = DenialOracle(catalogue, list(self.prompts.members))
        return oracle.violations(profiles, found, datetime.date.today())


def recall(requests: Sequence[Request], found: Sequence[Recommendations], k: int = TOP) -> float:
    """Returns the share of requests whose target is among the first k items."""
    return float(np.mean([r.target in one.items[:k] for r, one in zip(requests, found, strict=True)]))


def measure(
    evaluator: PromptEvaluator, strengths: Sequence[float], items: int, phrases: Sequence[Paraphrase] = ()
) -> dict[str, Any]:
    """Returns all metrics of the module's docstring: shares at strength 1, the curve at all `strengths`."""
    unprompted = evaluator.recommend(evaluator.requests)
    figures: dict[str, Any] = {"users": len(evaluator.requests)}
    figures["recall without a prompt"] = recall(evaluator.requests, unprompted)
    values, requests, prompted, shares = {}, {}, {}, {}
    for name in evaluator.columns():
        values[name] = evaluator.sample_values(name)
        requests[name] = evaluator.with_prompts(name, values[name])
        prompted[name] = evaluator.recommend(requests[name])
        by_rule = evaluator.recommend(requests[name], beside=RULES)
        frequent = evaluator.most_frequent(name, unprompted)
        less = evaluator.with_prompts(name, frequent, less=True)
        shares[name] = {
            "unprompted": evaluator.share(name, values[name], unprompted),
            "prompted": evaluator.share(name, values[name], prompted[name]),
            "prompted, by rule": evaluator.share(name, values[name], by_rule),
            "commonest, unprompted": evaluator.share(name, frequent, unprompted),
            "prompted less": evaluator.share(name, frequent, evaluator.recommend(less)),
            "and negative prompt": evaluator.share(name, frequent, evaluator.recommend(less, beside=NEGATIVE)),
        }
    figures["shares"] = shares
    grouped = paraphrases.held_out(evaluator.prompts)
    for phrase in phrases:
        grouped.setdefault(f"paraphrases: {phrase.label}", []).append(phrase)
    figures[SEVERAL], figures["paraphrases"] = {}, {}
    for label, some in grouped.items():
        of_label, of_phrases = evaluator.phrase_shares(some, unprompted)
        if of_phrases:
            figures[SEVERAL][f"{label} ({len(of_phrases)})"] = of_label
            figures["paraphrases"] |= of_phrases
    fitting = evaluator.with_fitting_prompts()
    curve: dict[str, list[tuple[float, ...]]] = {name: [] for name in requests}
    figures[FITTING], figures[CURVE] = [], curve
    for strength in strengths:
        figures[FITTING].append((strength, recall(fitting, evaluator.recommend(fitting, strength))))
        for name, asked in requests.items():
            found = prompted[name] if strength == 1 else evaluator.recommend(asked, strength)
            curve[name].append((strength, evaluator.share(name, values[name], found), recall(asked, found)))
    figures["title to item"] = evaluator.title_recall(items)
    if evaluator.generates_texts:
        figures["texts"] = evaluator.text_accuracy(items)
    figures["blocked or disliked"] = evaluator.violations(unprompted)
    return figures


def evaluate(
    workdir: epath.PathLike,
    split: str,
    checkpoint: str,
    users: int,
    beams: int,
    strengths: Sequence[float],
    items: int,
    exclude_history: bool = False,
    phrases: epath.PathLike = "",
) -> None:
    """Measures a checkpoint, with the paraphrases of a file if any, writes WORKDIR/prompts and shows the tables.

    For errors see `loaded_model.load`, `PromptEvaluator` and `paraphrases.read`.
    """
    workdir = epath.Path(workdir)
    loaded = loaded_model.load(workdir, checkpoint)
    logging.info("evaluating prompts at step %d, %d beams", loaded.step, beams)
    evaluator = PromptEvaluator(loaded, split, users, beams, exclude_history)
    measured = measure(evaluator, strengths, items, paraphrases.read(phrases, evaluator.prompts) if phrases else ())
    figures = {"step": loaded.step, "beams": beams, "split": split, "exclude_history": exclude_history, **measured}
    folder, text = workdir / FOLDER, _tables(figures)
    files.write_text(folder / PICTURE, _picture(measured))
    files.write_text(folder / f"{split}.txt", text)
    files.write_json(folder / f"{split}.json", figures)
    printing.show(text)
    printing.show(f"the curve is {folder / PICTURE}")


def _tables(figures: dict[str, Any]) -> str:
    shares = figures["shares"]
    kinds = list(next(iter(shares.values()), {}))
    axes = ["strength", "share", f"recall@{TOP}"]
    rule = results.history_rule(figures["exclude_history"])
    parts = [
        f"{figures['users']:,} users; {rule}; recall@{TOP} without a prompt {figures['recall without a prompt']:.4f}",
        tables.text(
            [[name, *row.values()] for name, row in shares.items()],
            [f"share of the first {TOP}, held-out words", *kinds],
            floats=".3f",
        ),
        tables.text(
            [[name, *(row.get(column, "") for column in AFTER)] for name, row in figures[SEVERAL].items()],
            ["held-out prompts and paraphrases (phrases)", *AFTER],
            floats=".3f",
        ),
        "a prompt for something that is true of the target\n"
        + tables.text(figures[FITTING], [axes[0], axes[2]], floats=".3f", align="r"),
    ]
    for name, points in figures[CURVE].items():
        parts.append(f"a prompt for any {name}\n" + tables.text(points, axes, floats=".3f", align="r"))
    others = [
        f"{title}, {name}: " + (f"{value:.3f}" if isinstance(value, float) else f"{value:,}")
        for title in ("title to item", "texts", "blocked or disliked")
        for name, value in figures.get(title, {}).items()
    ]
    return "\n\n".join([*parts, "\n".join(others)]) + "\n"


def _picture(figures: dict[str, Any]) -> str:
    """Returns an SVG of share over recall, a line per column; if prompts only name titles, of recall over strength."""
    x, y = f"recall@{TOP} of the target", f"share of the first {TOP}"
    series = {name: [(recall, share) for _, share, recall in points] for name, points in figures[CURVE].items()}
    if not series:
        x, y, series = "guidance strength", x, {"prompts that fit": figures[FITTING]}
    return charts.svg(charts.lines(series, x, y), f"{y.capitalize()} against {x}")
