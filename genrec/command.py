"""The frame of every script: flags, logging, the compilation cache, other processes, and errors that a person can act
on."""

import atexit
import dataclasses
import logging as standard_logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging

from genrec import distributed, exit_codes
from genrec.config import ConfigError
from genrec.errors import GenrecError

_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    distributed.MODES,
    "Whether this is one of several processes: auto looks at the environment, on lets JAX find the cluster.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where JAX cannot find it.")
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes of the run, with --coordinator.")
_PROCESS = flags.DEFINE_integer("process", None, "Number of this process, from 0, with --coordinator.")

PACKAGE = str(Path(__file__).parent)
CACHE = Path("~/.cache/genrec/compiled")


def run(main: Callable[[], None]) -> None:
    """Parses the flags, joins the other processes of the run if there are any, and calls `main`; then the process ends.

    Errors of users, which are `GenrecError`s, end it with a message on stderr. Others are bugs, or
    trouble of a machine, and keep their traceback; genrec.exit_codes tells them apart. Compiled functions are kept in
    the folder JAX_COMPILATION_CACHE_DIR, by default ~/.cache/genrec/compiled, so that the next start is quick.
    """

    def guarded(arguments: list[str]) -> None:
        if len(arguments) > 1:
            raise app.UsageError(f"Unexpected argument {arguments[1]!r}: every setting is a flag, --name=value.")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.INFO)
            logging.get_absl_handler().addFilter(_worth_reading)
        if jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", str(CACHE.expanduser()))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        try:
            by_hand = distributed.Job(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
            distributed.join(distributed.find(_DISTRIBUTED.value, by_hand, os.environ))
            main()
        except GenrecError as error:
            print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
            sys.exit(exit_codes.FAILED)
        except Exception:
            traceback.print_exc()
            sys.exit(exit_codes.CRASHED)

    try:
        app.run(guarded)
    except SystemExit as ended:
        _leave(ended.code)


def define_flags(settings: type) -> Callable[[], Any]:
    """A flag for each field of a dataclass, with the `help` of its metadata; returns what makes one of the flags."""
    define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    holders = {
        field.name: define[type(field.default)](field.name, field.default, field.metadata["help"])
        for field in dataclasses.fields(settings)
    }
    return lambda: settings(**{name: holder.value for name, holder in holders.items()})


def numbers(flag: str, texts: Sequence[str]) -> list[float]:
    """The numbers of a list; raises ConfigError for what is none."""
    try:
        return [float(text) for text in texts]
    except ValueError as problem:
        raise ConfigError(f"--{flag}={','.join(texts)}: write numbers, with commas between them") from problem


def _leave(code: int | str | None) -> None:
    """Ends the process as Python does, but without the destructors of C++ libraries.

    One of them, that of a thread pool, now and then aborts the process after all work is done ("terminate called
    without an active exception"), and a good run would count as a crash.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = exit_codes.FAILED
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _worth_reading(record: standard_logging.LogRecord) -> bool:
    """What genrec says, and warnings of everyone: libraries log too much of their own work."""
    return record.levelno > standard_logging.INFO or record.pathname.startswith(PACKAGE)
