"""The inputs of a search."""

from typing import Generic, NamedTuple

from genrec.decoding.beam_search import Diversity
from genrec.decoding.catalogue_index import Constraints
from genrec.decoding.guidance import Guidance
from genrec.decoding.index_arrays import ArrayT
from genrec.decoding.sampling import Sampling
from genrec.input_pipeline.examples import Histories


class Inputs(NamedTuple, Generic[ArrayT]):
    """The inputs of a search that have a row for each history; `diversity` without its groups, which have none."""

    histories: Histories
    constraints: Constraints[ArrayT] | None
    sampling: Sampling[ArrayT] | None
    diversity: Diversity[ArrayT] | None
    guidance: Guidance[ArrayT] | None
    # uint32[batch, rows of the index + 1], the transitions of the histories as `CatalogueIndex.log_shares` reads them
    transitions: ArrayT | None = None

    @property
    def encoder(self) -> list[Histories]:
        """Returns the inputs of the encoder: the histories, and with guidance those without and against prompts."""
        guidance = self.guidance
        if guidance is None:
            return [self.histories]
        found: list[Histories] = [self.histories, guidance.unconditional]
        if guidance.negative is not None:
            found.append(guidance.negative.histories)
        return found
