"""Output of tools/inspect_semantic_ids.py for a tiny catalogue."""

import pytest

from genrec import artifacts, config
from genrec.data.prepare import prepare
from genrec.semantic_ids.codes import SemanticIdError
from genrec.semantic_ids.embed import embed
from genrec.semantic_ids.inspection import Inspection
from genrec.semantic_ids.tokenize import learn

LEARNING = config.SemanticIdLearning(codes=(8, 8, 8), max_collision_rate=1.0)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("work")
    synthetic = config.SyntheticCatalogue(items=120, users=60)
    prepare(config.Data(source="synthetic", synthetic=synthetic), workdir / "dataset")
    embed(config.Embeddings(width=16), workdir / "dataset", workdir / "item_embeddings")
    learn(LEARNING, workdir / "item_embeddings", workdir / "semantic_ids")
    return workdir


def test_a_prefix_lists_its_items_with_titles(workdir):
    inspection = Inspection(workdir)
    code = int(inspection.ids.codes[3, 0])
    found = inspection.ids.items_with_prefix([code])
    lines = inspection.under_prefix([code], limit=1000).splitlines()
    assert lines[0] == f"{len(found)} items under [{code}]:" and len(lines) == 1 + len(found)
    for item in found:
        assert sum(inspection.catalogue.item_ids[item] in line.split() for line in lines) == 1
    short = inspection.under_prefix([], limit=2).splitlines()
    assert len(short) == 4 and short[-1].startswith(f"and {inspection.ids.items - 2} more")


def test_neighbors_show_the_codes_they_share(workdir):
    inspection = Inspection(workdir)
    item_id = inspection.catalogue.item_ids[5]
    lines = inspection.neighbors(item_id, limit=4).splitlines()
    assert item_id in lines[0] and inspection.catalogue.titles[5][:20] in lines[0]
    own = lines[0].split()[:4]
    for line in lines[3:]:
        shared, *code = line.split()[:5]
        assert own[: int(shared)] == code[: int(shared)] and own[: int(shared) + 1] != code[: int(shared) + 1]
    assert len(lines) == 7


def test_the_overview_counts_items_per_code(workdir):
    inspection = Inspection(workdir)
    counts = [int(line.split()[1]) for line in inspection.overview(limit=100).splitlines()[1:]]
    assert counts == sorted(counts, reverse=True) and sum(counts) == inspection.ids.items


def test_unknown_items_and_stale_stages_are_named(workdir):
    with pytest.raises(SemanticIdError, match="'nothing'"):
        Inspection(workdir).neighbors("nothing", limit=3)
    embed(config.Embeddings(width=12), workdir / "dataset", workdir / "item_embeddings")
    with pytest.raises(artifacts.ArtifactError, match="item_embeddings.*learn_semantic_ids"):
        Inspection(workdir)
