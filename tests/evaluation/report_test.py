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
from genrec.evaluation import evaluate, report, significance

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
    tables: Object.fromEntries([...document.querySelectorAll("section")].map(
      s => [s.id, [...s.querySelectorAll("table")].map(t => t.rows.length)])),
    headings: [...document.querySelectorAll("h2")].map(h => h.textContent),
    fetched: performance.getEntriesByType("resource").map(e => e.name),
    bold: [...document.querySelectorAll("main li")].map(l => l.textContent),
    ...measureTexts(),
  });
});

// Texts that are small, or that do not lie within the page, their picture and all boxes that clip; pairs that overlap.
function measureTexts() {
  const texts = [], small = [], cut = [], overlapping = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement, text = node.textContent.trim(), range = document.createRange();
    if (!text || parent.closest("script, style, details:not([open]) > :not(summary)")) continue;
    range.selectNodeContents(node);
    const matrix = parent.closest("svg") && parent.getScreenCTM(), scale = matrix ? Math.hypot(matrix.a, matrix.b) : 1;
    if (parseFloat(getComputedStyle(parent).fontSize) * scale < 11) small.push(text);
    const clips = [];
    for (let outer = parent; outer; outer = outer.parentElement)
      if (outer.tagName === "svg" || outer === document.documentElement ||
          getComputedStyle(outer).overflowX !== "visible") clips.push(outer.getBoundingClientRect());
    for (const box of range.getClientRects()) {
      if (clips.some(c => box.left < c.left - 1 || box.right > c.right + 1)) cut.push(text);
      for (const other of texts) {
        const width = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const height = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (other.node !== node && width > 1 && height > 3) overlapping.push([text, other.text]);
      }
      texts.push({box, node, text});
    }
  }
  return {texts: texts.length, small, cut, overlapping};
}
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
    manifest = {**files.read_json(dataset.path / "artifact.json"), "files": artifacts.measure_files(dataset.path)}
    files.write_json(dataset.path / "artifact.json", manifest)
    untrained(workdir, EXPERIMENT)
    rates = {"train/loss_level_0": 1, "train/learning_rate": 1e-3, "train/gradient_norm": 2, "train/step_seconds": 20}
    lines = [
        {"step": n, "train/loss": 9 / n, "train/targets_per_second": 100 * n, "validation/ndcg@10": n / 100, **rates}
        for n in range(1, 8)
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    machine = {"device_count": 8, "devices": ["TPU v9"], "system": "Linux x86_64", "cores": 64}
    (workdir / "machine.json").write_text(json.dumps(machine))
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


def measured(path, folder, width: int) -> dict:
    """Returns what MEASURE finds in a page with all details open."""
    copy = folder / f"measured_{width}.html"
    copy.write_text(path.read_text().replace("<details>", "<details open>").replace("</body>", MEASURE + "</body>"))
    dom, console = browse(copy, folder, width)
    assert console == []
    return json.loads(html.unescape(re.search(r'data-measured="([^"]*)"', dom).group(1)))


@pytest.fixture(scope="module", params=[390, 1280, 1920])
def found(request, workdir, tmp_path_factory):
    """What MEASURE finds in the report, in a window of some width."""
    return measured(report.write(workdir), tmp_path_factory.mktemp("browser"), request.param)


def test_a_browser_shows_every_section_chart_and_table(workdir, found):
    sections = ["Verdict", "Result", "Training", "Segments", "Popularity", "Semantic IDs", "Examples"]
    assert found["headings"] == sections
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    segments = len(figures["segments"])
    # Result, six of the training, one per segmentation, popularity, codes.
    assert found["pictures"] == 9 + segments and found["marks"] > 50
    tables = {name: len(rows) for name, rows in found["tables"].items() if rows}
    assert tables == {"verdict": 1, "result": 1, "segments": segments, "popularity": 1, "semantic-ids": 1}
    assert min(rows for of in found["tables"].values() for rows in of) >= 2
    assert found["tables"]["result"] == [1 + len(figures["metrics"]) - 2], "NDCG and MRR at 1 are recall at 1"
    assert found["fetched"] == []
    assert any(item.startswith(TITLE) for item in found["bold"])


def test_no_text_is_small_cut_or_overlaps_another(found):
    assert found["texts"] > 300
    assert (found["small"], found["cut"], found["overlapping"]) == ([], [], [])


def test_small_cut_and_overlapping_texts_are_found(tmp_path):
    """Otherwise finding none would prove nothing."""
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><body><p style='font-size: 8px'>small</p><p>good</p>"
        "<div style='overflow-x: hidden; width: 100px'><p style='width: 300px; text-align: right'>cut</p></div>"
        "<svg width=20 height=20 viewBox='0 0 20 20'><text x=10 y=15>drawn beyond</text></svg>"
        "<svg width=200 height=200 viewBox='0 0 400 400'><text x=9 y=99 font-size=20>scaled</text></svg>"
        "<div style='position: relative; height: 2em'><span style='position: absolute'>one</span>"
        "<span style='position: absolute'>two</span></div></body>"
    )
    found = measured(page, tmp_path, 800)
    assert (found["small"], found["cut"]) == (["small", "scaled"], ["cut", "drawn beyond"])
    assert found["overlapping"] == [["two", "one"]]


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


def test_it_says_what_was_evaluated_and_how_it_stands_to_the_baselines(workdir):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", report.write(workdir).read_text()))
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    run = figures["run"]
    for part in (
        f"Evaluated {run['date'][:10]}",
        "Withheld or changed nothing",
        "Items of the history kept",
        "The model has recall@10",
        ", history items kept: ",
        "Training time 2 min 20 s",
        "Trained on 8 x TPU v9 (Linux x86_64, 64 cores)",
        "Evaluated on 8 x cpu",
        f"Parameters {run['parameters']:,}",
        f"genrec {run['version']}",
        "model.width 16",
        "step 7 of 4,000, with 0.0700",
        "3rd tenth",
        "gini@10 lower",
    ):
        assert part in text, part
    words = [significance.verdict(of["recall@10"]) for of in figures["comparisons"].values()]
    assert len(words) == 2 and all(f"{word} " in text for word in words)
    assert len(run["changed_settings"]) > 10 and "model.heads" in run["changed_settings"]


def test_an_evaluation_of_another_version_is_refused(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copy")
    (tmp_path / "copy" / "evaluation" / "test.json").write_text("{}")
    with pytest.raises(artifacts.ArtifactError, match="version"):
        report.write(tmp_path / "copy")


def test_a_missing_evaluation_is_an_error_and_a_missing_log_is_named(workdir, tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="validation"):
        report.write(workdir, "validation")
    shutil.copytree(workdir, tmp_path / "copy")
    (tmp_path / "copy" / "metrics.jsonl").unlink()
    assert "There is no <code>metrics.jsonl</code>" in report.write(tmp_path / "copy").read_text()
