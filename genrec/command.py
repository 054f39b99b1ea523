"""Entry point of the scripts: flags, logging, compilation cache, multi-process start-up, and errors for users."""

from genrec import signals  # before the slow imports: it catches signals from here on

# isort: split
import atexit
import logging as standard_logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging

from genrec import artifacts, disk_space, distributed, exit_codes, printing, script_flags
from genrec.config import ConfigError
from genrec.errors import GenrecError, cut, shown

_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    distributed.MODES,
    "Whether the run has several processes: auto detects it from the environment, on lets JAX find the cluster.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, if JAX cannot detect it.")
_PROCESSES = flags.DEFINE_integer(
    "processes", None, "Number of processes of the run, with --coordinator.", lower_bound=1
)
_PROCESS = flags.DEFINE_integer("process", None, "Index of this process, from 0, with --coordinator.", lower_bound=0)
_VERIFY = flags.DEFINE_bool(
    "verify_artifacts", False, "Compare the checksums of the artifacts that are read, not only sizes."
)

PACKAGE = str(Path(__file__).parent)
LINE, TIME = "%(asctime)s %(levelname).1s %(message)s", "%m-%d %H:%M:%S"  # of the log
CACHE = Path("~/.cache/genrec/compiled")  # of compiled functions
LONGEST_LINE = 1000  # characters of a line of an error message


def run(main: Callable[[], None]) -> None:
    """Parses the flags, checks the config, connects to the other processes of the run if any, calls `main`, and exits.

    A `GenrecError`, which a user can correct, ends the process with its message on stderr. All other exceptions are
    bugs or machine failures, and keep their traceback; see genrec.exit_codes, also for SIGTERM and Ctrl-C. Compiled
    functions are cached in JAX_COMPILATION_CACHE_DIR, by default ~/.cache/genrec/compiled.
    """

    def guarded(arguments: list[str]) -> None:
        for handler in (logging.get_absl_handler(), *standard_logging.root.handlers):
            handler.addFilter(printing.clean_log_entry)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.INFO)
            logging.get_absl_handler().addFilter(_is_shown)
        logging.get_absl_handler().setFormatter(standard_logging.Formatter(LINE, TIME))
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", str(CACHE.expanduser()))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        artifacts.Verification.enabled = _VERIFY.value
        try:
            if len(arguments) > 1:
                raise ConfigError(f"unexpected argument {arguments[1]!r}: settings are flags, --name=value")
            _refuse_undecodable(sys.argv)
            script_flags.check_config()
            by_hand = distributed.Job(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
            distributed.join(distributed.find(_DISTRIBUTED.value, by_hand, os.environ))
            main()
        except GenrecError as error:
            _fail(error)
        except Exception as error:
            if full := disk_space.cause(error):
                _fail(full)
            printing.show(traceback.format_exc(), file=sys.stderr)
            sys.exit(exit_codes.CRASHED)

    try:
        app.run(guarded, flags_parser=script_flags.parse)
    except SystemExit as ended:
        _leave(ended.code)
    except KeyboardInterrupt as stopped:
        _leave(signals.report(stopped))


def _fail(error: GenrecError) -> NoReturn:
    message = "\n".join(cut(line, LONGEST_LINE) for line in str(error).split("\n"))
    printing.show(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(exit_codes.FAILED)


def _refuse_undecodable(arguments: Sequence[str]) -> None:
    """Raises ConfigError for an argument that is no text: no file could hold it, and no terminal show it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"the argument {shown(argument)} is not UTF-8 text") from None


def _leave(code: int | str | None) -> None:
    """Exits as Python does, but without running the destructors of C++ libraries.

    The destructor of a thread pool sometimes aborts the process after all work is done ("terminate called without an
    active exception"), so that a successful run would count as a crash.
    """
    if isinstance(code, str):
        printing.show(code, file=sys.stderr)
        code = exit_codes.FAILED
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _is_shown(entry: standard_logging.LogRecord) -> bool:
    """Returns whether a log entry is shown: those of genrec, and warnings of other packages without exceptions.

    Exceptions that a package logs it also raises: they are shown once, and a full disk not by pages of traceback.
    """
    foreign = entry.levelno > standard_logging.INFO and not entry.exc_info
    return foreign or entry.pathname.startswith(PACKAGE)
