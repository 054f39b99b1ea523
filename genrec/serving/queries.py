"""Queries of an engine: a request with the options of its search, and what comes of it."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from genrec import config, settings_check
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding.live_index import Restriction
from genrec.input_pipeline.context import RequestContext
from genrec.ranking.lists import GENERATOR
from genrec.serving.requests import Request
from genrec.settings import setting


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the search. Raises ConfigError for invalid values."""

    top: int = setting(10, "Number of items to recommend.", at_least=1, at_most=config.MANY)
    beams: int = setting(50, "Beam width; at least --top is used.", at_least=1, at_most=config.MANY)
    max_beams: int = setting(
        0,
        "Double the beam width up to this until the list is certified; 0 never does.",
        at_least=0,
        at_most=config.MANY,
    )
    exclude_history: bool = setting(False, "Exclude the items of the history.")
    temperature: float = setting(
        0.0, "Sampling temperature; 0 returns the most likely items, 1 samples as modeled.", at_least=0
    )
    top_p: float = setting(
        1.0, "Nucleus sampling: probability mass of the codes of each level to sample from.", above=0, at_most=1
    )
    seed: int = setting(0, "Sampling seed.", at_least=0)
    max_share: float = setting(1.0, "Maximum share of the list with the same value of --share_of.", above=0, at_most=1)
    share_of: str = setting(
        "", "Catalogue column for --max_share; empty takes the code of the first level.", text="a column of the items"
    )
    guidance: float = setting(1.0, "Guidance strength of prompts: 0 ignores them, 1 is plain conditioning.", at_least=0)

    def __post_init__(self) -> None:
        settings_check.check(self)
        if self.top_p < 1 and self.temperature == 0:
            raise config.ConfigError("top_p is for sampling: give a temperature too, such as 1")
        if self.max_beams and (self.temperature > 0 or self.max_share < 1):
            raise config.ConfigError(
                "max_beams widens a search until its list is certified: not for sampled or diversified lists"
            )


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The ranked list of a request; shorter than requested if the catalogue or the beams have no more items."""

    items: np.ndarray  # int32[found], catalogue rows
    scores: np.ndarray  # float32[found], log-probabilities; of another source, its scores
    certified: int  # how many leading items are proven to be the most likely of all eligible ones


@dataclasses.dataclass(frozen=True)
class Shortage:
    """Rules of a prompt that leave fewer items than asked for, and a list where some of them are taste."""

    eligible: int  # items that pass all rules
    without: Mapping[int, int]  # number of a rule -> items that pass the others
    loosened: tuple[int, ...] = ()  # numbers of the rules that are taste in the list
    found: Recommendations | None = None


@dataclasses.dataclass(frozen=True)
class Query:
    """A request, the options of its search, and a filter beside those of the request."""

    request: Request
    options: Options
    filter: Filter = EVERYTHING
    source: str = GENERATOR  # of the list


class Program(NamedTuple):
    """The form of a search. Queries of the same form can be searched together."""

    kind: str = "plain"  # or "sampled", "diverse", or another source than the generator
    share_of: str = ""  # the column whose values are limited in a list
    room: int = 0  # for prompts, in pieces
    guidance: int = 0  # 1: guided by prompts, 2: and by negative prompts


class PreparedQuery(NamedTuple):
    """A query with the inputs of its search."""

    query: Query
    context: RequestContext
    negative: str  # prompt for what is refused
    strengths: tuple[float, float]  # of the prompt and of the negative prompt
    restriction: Restriction
    program: Program
