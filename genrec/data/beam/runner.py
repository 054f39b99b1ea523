"""Runner of Beam pipelines over pieces of data, on this machine's cores or on a cluster.

A Beam pipeline here is one pass over pieces: paths of files in a folder that all workers reach, and results that fit
into one machine's memory. Its functions are functions of modules, not closures, so that workers can import them.

The files are pickled, as is what Beam itself sends to its workers. Who can write into that folder, or replace it, while
a stage runs can run code as the user of this process and of the workers; docs/preparation_at_scale.md says so.
"""

import dataclasses
import functools
import importlib.util
import pickle
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from absl import logging
from etils import epath

from genrec.errors import GenrecError

INSTALL = "pip install -e '.[beam]'"


class BeamError(GenrecError):
    """Error in the choice of a runner or its options. The message says what is wrong and what to do."""


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    """Beam runner, by a name such as "DirectRunner" and options such as "--direct_num_workers=4".

    Raises BeamError if the package is missing, or if the runner or the value of an option is unknown.
    """

    name: str
    options: tuple[str, ...] = ()

    def __post_init__(self):
        if importlib.util.find_spec("apache_beam") is None:
            raise BeamError(f"--beam_runner={self.name} needs a package that is not installed: {INSTALL}.")
        from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
        from apache_beam.runners import runner

        try:
            created = runner.create_runner(self.name)
        except (ValueError, AttributeError, ImportError) as error:
            raise BeamError(
                f"--beam_runner={self.name}: {error} Give the name of a Beam runner, such as DirectRunner, "
                "FlinkRunner, SparkRunner or DataflowRunner (which needs pip install 'apache-beam[gcp]')."
            ) from error
        for option in self.options:
            if not option.startswith("--"):
                raise BeamError(f"--beam_options={option}: write --beam_options=--NAME=VALUE, once for each option.")
        try:
            options = self.pipeline_options()
            options.get_all_options()
            wrong = PipelineOptionsValidator(options, created).validate()
        except SystemExit as error:  # argparse has printed which it is
            raise BeamError(f"--beam_options={' '.join(self.options)}: Beam does not accept these values.") from error
        if wrong:
            raise BeamError(f"--beam_options for {self.name}: {' '.join(line.strip() for line in wrong)}")

    def pipeline_options(self) -> Any:
        """Returns new `PipelineOptions` for the runner."""
        from apache_beam.options.pipeline_options import PipelineOptions

        return PipelineOptions([f"--runner={self.name}", *self.options])

    def map(self, title: str, function: Callable[[Any], Any], pieces: Sequence[Any], folder: epath.Path) -> list[Any]:
        """Applies a function to each piece, and returns the results in the order of the pieces.

        Args:
          title: Name of the pass, one word, and of its file in `folder`.
          function: The function; of its `GenrecError`s the first, by the order of the pieces, is raised here.
          pieces: Small values.
          folder: Folder for the results, which workers reach.
        """
        import apache_beam

        steps = "Apply" >> apache_beam.Map(functools.partial(_guarded, function)) | apache_beam.combiners.ToList()
        results = dict(self._run(title, steps, enumerate(pieces), folder))
        for index in range(len(results)):
            if isinstance(results[index], _Failed):
                raise results[index].error
        return [results[index] for index in range(len(results))]

    def combine(
        self,
        title: str,
        function: Callable[[Any], Any],
        merge: Callable[[Any, Any], Any],
        pieces: Sequence[Any],
        folder: epath.Path,
    ) -> Any:
        """Returns the results of `function` merged two at a time, in any order, for results too large to keep all."""
        import apache_beam

        merged = "Merge" >> apache_beam.CombineGlobally(functools.partial(_reduce, merge))
        steps = "Apply" >> apache_beam.Map(function) | merged
        return self._run(title, steps, pieces, folder)

    def group(
        self,
        title: str,
        emit: Callable[[Any], Iterable[tuple[Hashable, Any]]],
        gather: Callable[[Hashable, Iterable[Any]], Any],
        pieces: Sequence[Any],
        folder: epath.Path,
    ) -> list[Any]:
        """Groups by key: returns `gather(key, values)` for each key, in their order.

        `emit` yields pairs (key, value) for a piece. The values of a key come in any order, and must fit on one worker.
        """
        import apache_beam

        steps = (
            "Emit" >> apache_beam.FlatMap(emit)
            | apache_beam.GroupByKey()
            | "Gather" >> apache_beam.MapTuple(functools.partial(_keyed, gather))
            | apache_beam.combiners.ToList()
        )
        return [result for _, result in sorted(self._run(title, steps, pieces, folder), key=_key)]

    def flat_map(self, function: Callable[[Any], Iterator[Any]], pieces: Sequence[Any]) -> Any:
        """Returns the transform that yields what `function` yields for each piece, to be part of another pipeline."""
        import apache_beam

        return apache_beam.Create(list(pieces)) | apache_beam.Reshuffle() | "Apply" >> apache_beam.FlatMap(function)

    def _run(self, title: str, steps: Any, pieces: Iterable[Any], folder: epath.Path) -> Any:
        import apache_beam

        logging.info("Beam: %s", title)
        path = folder / f"{title}.result"
        with apache_beam.Pipeline(runner=self.name, options=self.pipeline_options()) as pipeline:
            # Without the reshuffle a runner may fuse all steps into one task.
            start = pipeline | apache_beam.Create(list(pieces)) | apache_beam.Reshuffle()
            _ = start | title >> steps | "Save" >> apache_beam.Map(functools.partial(save, str(path)))
        return load(path)


def of_flags(name: str, options: Sequence[str]) -> BeamRunner | None:
    """Returns the runner of a script's flags, None without a name; raises `BeamError` if it cannot be used."""
    if name:
        return BeamRunner(name, tuple(options))
    if options:
        raise BeamError("--beam_options need a runner: name it with --beam_runner, or leave them out.")
    return None


def save(path: epath.PathLike, value: Any) -> None:
    """Writes a value to a file, pickled."""
    epath.Path(path).write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def load(path: epath.PathLike) -> Any:
    """Returns the value that `save` wrote; runs the code that a file from others may hold."""
    return pickle.loads(epath.Path(path).read_bytes())


@dataclasses.dataclass(frozen=True)
class _Failed:
    """A `GenrecError` returned as a result; if it were raised, the runner would retry and wrap it in an own error."""

    error: GenrecError


def _guarded(function: Callable[[Any], Any], piece: tuple[int, Any]) -> tuple[int, Any]:
    index, value = piece
    try:
        return index, function(value)
    except GenrecError as error:
        return index, _Failed(error)


def _reduce(merge: Callable[[Any, Any], Any], values: Iterable[Any]) -> Any:
    return functools.reduce(merge, values)


def _keyed(gather: Callable[[Hashable, Iterable[Any]], Any], key: Hashable, values: Iterable[Any]) -> tuple:
    return key, gather(key, values)


def _key(pair: tuple[Any, Any]) -> Any:
    return pair[0]
