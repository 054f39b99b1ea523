"""Every file, link, flag, setting and Python name that the documentation mentions exists."""

import ast
import dataclasses
import functools
import importlib
import re
from pathlib import Path

import pytest
import script_settings

from genrec import config
from genrec.cluster import targets

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDES = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # the changelog also names what was removed
SOURCES = [path for folder in ("launch", "tools", "genrec") for path in (ROOT / folder).rglob("*.py")]
FOLDERS = ("genrec", "launch", "tools", "configs", "tests", "docs", "examples")
FILE_NAMES = {"setup.py", *(path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))}
# Options of Dataflow, which docs/preparation_at_scale.md names.
FOREIGN_FLAGS = {"project", "region", "temp_location", "sdk_container_image", "job_endpoint", "environment_type"}


def blocks(text: str, language: str = r"\w*") -> list[str]:
    """The fenced blocks of a document, with continued lines joined."""
    found = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    return [block.replace("\\\n", " ") for block in found]


def code_spans(text: str) -> list[str]:
    """What is in backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@functools.cache
def defined_flags() -> set[str]:
    found = {*targets.settings(), "config", "help"}
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        found.update(re.findall(r'(?i:define)\w*\(\s*"(\w+)"', source))
        found |= script_settings.of_dataclasses(source)
    return found


def has_setting(path: str) -> bool:
    """Tells whether an experiment has a setting or a section such as model.width."""
    settings = config.Experiment()
    for name in path.split("."):
        if not hasattr(settings, name):
            return False
        settings = getattr(settings, name)
    return True


def has_name(dotted: str) -> bool:
    """Tells whether a name such as genrec.decoding.retrieval.Retriever is a module, or defined in one."""
    module, names = dotted, []
    while not _is_module(module):
        module, _, name = module.rpartition(".")
        names.insert(0, name)
    found = importlib.import_module(module)
    for name in names:
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def _is_module(dotted: str) -> bool:
    path = ROOT.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=GUIDES, ids=name_of)
def text(request) -> str:
    return request.param.read_text(encoding="utf-8")


def test_files_exist(text):
    named = [*code_spans(text), *re.findall(r"(?<![$\w./])[\w./]+", "\n".join(blocks(text, "bash")))]
    paths = {path for name in named if (path := name.split(":")[0]) and re.fullmatch(r"[\w./]+", path)}
    missing = {path for path in paths if path.split("/")[0] in FOLDERS and not (ROOT / path).exists()}
    missing |= {path for path in paths if re.fullmatch(r"\w+\.py", path) and path not in FILE_NAMES}
    assert missing <= set(FOLDERS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_flags_exist(text):
    spans = [span for span in code_spans(text) if span.startswith("--")]
    commands = [
        line for block in blocks(text) for line in block.splitlines() if re.search(r"python (launch|tools)/", line)
    ]
    used = {name for line in [*spans, *commands] for name in re.findall(r"(?:^|[\s'])--(\w+)", line)}
    known = defined_flags() | FOREIGN_FLAGS
    assert {name for name in used if name not in known and name.removeprefix("no") not in known} == set()


def test_settings_exist(text):
    sections = {field.name for field in dataclasses.fields(config.Experiment)}
    used = set(re.findall(r"--config\.([\w.]*\w)", text))
    for span in code_spans(text):
        path = re.match(r"(?:config\.)?(\w+(?:\.\w+)+)(?: ?=|$)", span)
        if path and path[1].split(".")[0] in sections and Path(path[1]).suffix not in (".py", ".safetensors"):
            used.add(path[1])
    assert {path for path in used if not has_setting(path)} == set()


def test_python_names_exist(text):
    names = {span for span in code_spans(text) if re.fullmatch(r"genrec(\.\w+)+", span)}
    names.update(re.findall(r"^::: (genrec[\w.]+)", text, flags=re.MULTILINE))
    for block in [*blocks(text, "python"), *re.findall(r"<<'\w+'\n(.*?)\n[A-Z]+\n", text, flags=re.DOTALL)]:
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
        names.update(f"{node.module}.{alias.name}" for node in imports for alias in node.names)
    assert [name for name in sorted(names) if name.startswith("genrec") and not has_name(name)] == []


def test_what_does_not_exist_is_found():
    assert has_setting("sasrec.training.steps") and not has_setting("model.widht")
    assert has_name("genrec.data.dataset.Dataset.split") and not has_name("genrec.serving.engine.Nothing")
    assert blocks("```bash\nrun \\\n--a=1\n```\n`b`") == ["run  --a=1\n"] and code_spans("`b`\n```\n`c`\n```") == ["b"]
