"""The report in a real browser, headless: its pictures and tables are there, nothing fails, and nothing is fetched."""

import html
import json
import os
import re
import shutil
import subprocess

import pyarrow as pa
import pytest

from genrec import artifacts, config, files
from genrec.data import dataset as datasets
from genrec.data.prepare import prepare
from genrec.evaluation import evaluate, report

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=60)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
    evaluation=config.Evaluation(beams=120, batch=64, cutoffs=(1, 10)),
)
TITLE = "<b>Bread & \"Butter\"</b> 'n' jam 🎧"
MEASURE = """<script>
addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("figure svg")].map(s => s.getBoundingClientRect());
  document.body.dataset.measured = JSON.stringify({
    pictures: boxes.filter(b => b.width > 100 && b.height > 40).length,
    marks: document.querySelectorAll("svg path, svg use").length,
    tables: [...document.querySelectorAll("table")].map(t => t.rows.length),
    headings: [...document.querySelectorAll("h2")].map(h => h.textContent),
    wide: document.documentElement.scrollWidth > innerWidth,
    fetched: performance.getEntriesByType("resource").map(e => e.name),
    bold: [...document.querySelectorAll("main li")].map(l => l.textContent),
  });
});
</script>"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, untrained):
    """An evaluated run; all items are called TITLE and a number."""
    workdir = tmp_path_factory.mktemp("run")
    prepare(EXPERIMENT.data, workdir / "dataset")
    dataset = datasets.Dataset(workdir / "dataset")
    table = dataset.catalogue.table
    titles = pa.array([f"{TITLE} {number}" for number in range(len(table))])
    renamed = table.set_column(table.column_names.index("title"), "title", titles)
    files.write_parquet(renamed, dataset.path / "catalogue.parquet")
    untrained(workdir, EXPERIMENT)
    lines = [{"step": n, "train/loss": 9 / n, "validation/recall@10": n / 100} for n in range(1, 8)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluate.evaluate(EXPERIMENT, workdir)
    return workdir


def browse(path, folder, width: int) -> tuple[str, list[str]]:
    """Returns the document after its scripts ran, and the lines of the console."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser, "no Chromium: launch/test.sh installs Debian's package; elsewhere install a browser first"
    command = [
        browser,
        *"--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync".split(),
        *"--disable-background-networking --disable-component-update --disable-dev-shm-usage".split(),
        *"--enable-logging=stderr --v=0 --virtual-time-budget=2000 --dump-dom".split(),
        f"--window-size={width},900",
        f"--user-data-dir={folder / f'profile{width}'}",
        path.as_uri(),
    ]
    environment = {**os.environ, "HOME": str(folder)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout, [line for line in ended.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.parametrize("width", [1280, 520])
def test_a_browser_shows_every_section_chart_and_table(workdir, tmp_path, width):
    path = report.write(workdir)
    measured = tmp_path / "measured.html"
    measured.write_text(path.read_text().replace("</body>", MEASURE + "</body>"))
    dom, console = browse(measured, tmp_path, width)
    assert console == []
    found = json.loads(html.unescape(re.search(r'data-measured="([^"]*)"', dom).group(1)))
    assert found["headings"] == ["Result", "Training", "Segments", "Popularity", "Semantic IDs", "Examples"]
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    # Result, two curves, one per segmentation, popularity, codes.
    assert found["pictures"] == 5 + len(figures["segments"]) and found["marks"] > 50
    assert len(found["tables"]) == 3 + len(figures["segments"]) and min(found["tables"]) >= 2
    assert found["tables"][0] == 1 + len(figures["metrics"])
    assert found["fetched"] == [] and not found["wide"]
    assert any(item.startswith(TITLE) for item in found["bold"])


def test_the_console_reports_errors(tmp_path):
    """Otherwise an empty console would prove nothing."""
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><body><script>nothing.there()</script></body>")
    assert any("nothing is not defined" in line for line in browse(broken, tmp_path, 800)[1])


def test_the_file_stands_alone_and_is_the_same_every_time(workdir):
    text = report.write(workdir).read_text()
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert "<b>Bread" not in text and html.escape(TITLE) in text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(set(ids)) == len(ids) and set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)
    assert report.write(workdir).read_text() == text
    assert not list((workdir / "evaluation").glob(".*"))


def test_a_missing_evaluation_is_an_error_and_a_missing_log_is_named(workdir, tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="validation"):
        report.write(workdir, "validation")
    shutil.copytree(workdir, tmp_path / "copy")
    (tmp_path / "copy" / "metrics.jsonl").unlink()
    assert "There is no <code>metrics.jsonl</code>" in report.write(tmp_path / "copy").read_text()
