"""Flags of the scripts: those of a config and its settings, of paths, of options; their help and their errors.

A script defines its flags with these functions, and `parse` reads the command line. A mistake ends a script with one
line and exit code 1, `--help` with all flags of the script and exit code 0.
"""

import ast
import dataclasses
import functools
import importlib.util
import os
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from genrec import exit_codes, printing, settings_check
from genrec.config import ConfigError, Experiment
from genrec.errors import cut, shown
from genrec.settings import Setting, nearest, setting

HELP = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull"}
MESSAGE = 400  # characters of an error that are printed

T = TypeVar("T")


def parse(arguments: list[str]) -> list[str]:
    """Parses a command line; returns what is no flag. For `app.run`, as its `flags_parser`."""
    own = arguments[1 : arguments.index("--")] if "--" in arguments else arguments[1:]
    if HELP & set(own):
        printing.show(_help(everything="--helpfull" in own))
        sys.exit(0)
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        printing.show(f"{Path(arguments[0]).name}: {cut(' '.join(str(error).split()), MESSAGE)}", file=sys.stderr)
        sys.exit(exit_codes.FAILED)


def define(name: str, default: T, help_text: str, **limits: Any) -> flags.FlagHolder[T]:
    """Defines a flag of the type of its default: a number, a text, or a tuple, whose elements are separated by commas.

    `limits` are those of `settings.setting`. NaN is refused.
    """
    kind: Any = tuple[type(default[0]), ...] if isinstance(default, tuple) else type(default)  # type: ignore[misc]
    field: Any = setting(default, help_text, **limits)
    return flags.DEFINE(Parser(kind, field.metadata["setting"]), name, default, help_text, module_name=sys.argv[0])


@typing.overload
def define_path(name: str, help_text: str, required: typing.Literal[True]) -> flags.FlagHolder[str]: ...


@typing.overload
def define_path(name: str, help_text: str, required: bool = ...) -> flags.FlagHolder[str | None]: ...


def define_path(name: str, help_text: str, required: bool = False) -> Any:
    """Defines a flag for a path, which may begin with `~` and is not empty."""
    return flags.DEFINE(PathParser(), name, None, help_text, required=required, module_name=sys.argv[0])


def define_fields(options: Callable[..., T]) -> Callable[[], T]:
    """Defines a flag for each setting of a dataclass. Returns a function that makes it from the values of the flags."""
    section: Any = options  # a dataclass, which the type checker cannot tell of a callable
    defaults = {field.name: field.default for field in dataclasses.fields(section)}
    holders = {
        name: _define_field(name, kind, declared, defaults[name])
        for name, kind, declared in settings_check.flat_fields(section)
    }
    return lambda: options(**{name: holder.value for name, holder in holders.items()})


def of_environment(prefix: str) -> list[str]:
    """Returns arguments for the flags of the script that environment variables set, such as GENREC_PORT for --port."""
    by_module = flags.FLAGS.flags_by_module_dict()
    names = [flag.name for module in (sys.argv[0], __name__) for flag in by_module.get(module, ())]  # of settings, too
    variables = {name: prefix + name.upper() for name in names}
    return [f"--{name}={os.environ[variable]}" for name, variable in variables.items() if variable in os.environ]


class ConfigFlag:
    """The flag `--config` and a flag `--config.NAME` for each setting of an experiment."""

    def __init__(self, required: bool):
        self._path = define_path("config", "Config file, with a variant after a colon if it has some.", required)
        self._settings = {
            name: _define_field(f"config.{name}", kind, declared)
            for name, kind, declared in settings_check.flat_fields(Experiment)
        }

    @property
    def is_given(self) -> bool:
        return self._path.value is not None

    @functools.cached_property
    def value(self) -> Experiment:
        """The experiment of the config file, with the settings of the command line.

        Raises ConfigError if the file does not give one, or if a setting is not valid.
        """
        experiment = load(self._path.value or "")
        for name, holder in self._settings.items():
            if holder.present:
                *sections, own = name.split(".")
                section: Any = functools.reduce(getattr, sections, experiment)
                setattr(section, own, holder.value)
        settings_check.check(experiment)
        settings_check.expand_user(experiment)
        return experiment


def define_config(required: bool = True) -> ConfigFlag:
    """Defines the flags of an experiment."""
    _configs.append(ConfigFlag(required))
    return _configs[-1]


def check_config() -> None:
    """Loads and checks the config of the script, if one is given; see `ConfigFlag.value`."""
    for config in _configs:
        if config.is_given:
            _ = config.value


def load(path: str) -> Experiment:
    """Returns the experiment of `PATH[:VARIANT]`: what `get_config()` or `get_config(VARIANT)` of the file returns.

    Raises ConfigError, which names the file and the line, if it returns none.
    """
    name, *variant = path.split(":", 1)
    file = Path(name)
    if not file.is_file():
        there = [str(other) for other in file.parent.glob("*.py")]
        raise ConfigError(f"--config={path}: there is no file {name}{nearest(name, there)}")
    spec = importlib.util.spec_from_file_location("config_of_script", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config={path}: {name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        experiment = module.get_config(*variant)
        if type(experiment) is not Experiment:
            raise ConfigError(f"get_config() must return a genrec.config.Experiment, got {shown(experiment)}")
        settings_check.check_names(experiment)
    except ConfigError as error:
        raise ConfigError(f"--config={path}: {error}") from error
    except Exception as error:  # whatever the code of a user raises
        raise ConfigError(f"--config={path}: {_place(error, name)}: {type(error).__name__}: {error}") from error
    return experiment


def given(leave_out: Sequence[str] = ()) -> list[str]:
    """Returns the flags of the command line, each as one argument, for a script that has the same ones."""
    present = [
        flag for name, flag in ((name, flags.FLAGS[name]) for name in flags.FLAGS) if flag.present and name == flag.name
    ]
    values = [(flag.name, flag.value if isinstance(flag.value, list) else [flag.value]) for flag in present]
    return [f"--{name}={value}" for name, several in values for value in several if name not in leave_out]


_configs: list[ConfigFlag] = []  # of the script that runs, at most one


def _define_field(name: str, kind: object, declared: Setting, default: Any = None) -> flags.FlagHolder[Any]:
    if kind is bool:
        return flags.DEFINE_bool(name, default, declared.help)
    is_tuple = typing.get_origin(kind) is tuple  # given twice, one of them would be lost
    return flags.DEFINE(Parser(kind, declared), name, default, declared.help, allow_overwrite=not is_tuple)


class Parser(flags.ArgumentParser):
    """Parser of a setting: a number, a text or a tuple."""

    def __init__(self, kind: object, declared: Setting):
        self._kind, self._declared = kind, declared
        self.syntactic_help = declared.allowed(kind)

    def parse(self, argument: Any) -> Any:
        """Returns the value of a text; a default that is no text is returned as it is."""
        if not isinstance(argument, str):
            return argument
        if typing.get_origin(self._kind) is not tuple:
            return self._declared.parse(self._kind, argument)
        element = typing.get_args(self._kind)[0]
        found = tuple(self._declared.parse(element, text) for text in _elements(argument))
        if problem := self._declared.problem(self._kind, found):
            raise ValueError(problem)
        return found


class PathParser(flags.ArgumentParser):
    """Parser of a path."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        """Returns the path, with `~` at its beginning replaced."""
        if not argument.strip():
            raise ValueError("give a path")
        return os.path.expanduser(argument)  # noqa: PTH111  # Path would change gs://


def _elements(text: str) -> list[str]:
    """Returns the elements of a tuple, which are separated by commas or written as in Python, for texts with commas."""
    if text.strip()[:1] in ("(", "[", '"', "'"):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise ValueError("write elements with commas between them, or a tuple of Python") from None
        return [str(element) for element in (found if isinstance(found, tuple | list) else (found,))]
    return [element.strip() for element in text.split(",") if element.strip()]


def _help(everything: bool) -> str:
    """Returns the docstring of the script and its flags, or those of all libraries."""
    text = str(sys.modules["__main__"].__doc__)
    if everything:
        return f"{text}\n{flags.FLAGS.get_help()}"
    modules = [name for name in flags.FLAGS.flags_by_module_dict() if name == sys.argv[0] or name.startswith("genrec.")]
    modules.sort(key=lambda name: name != sys.argv[0])  # those of the script first
    return "\n".join([text, *map(flags.FLAGS.module_help, modules)])


def _place(error: Exception, name: str) -> str:
    """Returns file and line in which the code of a config failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    own, frames = Path(name).absolute(), traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).absolute() == own]
    return f"{name}, line {lines[-1]}" if lines else name
