"""What identifies an evaluation, and the folders and words of variants, without a model."""

import dataclasses

import pytest

from genrec import config
from genrec.evaluation import identity, results

VARIANTS = {
    "": {},
    "history=0,without=all": {"history": 0, "withheld_features": ("all",)},
    "history=5": {"history": 5},
    "without=a%2Fb+country": {"withheld_features": ("country", "a/b", "country")},
    "request_time": {"request_time": True},
    "new_items_share=0.25": {"new_items_share": 0.25},
}


@pytest.mark.parametrize(("name", "settings"), VARIANTS.items())
def test_variants_have_folders_and_words_of_their_own(tmp_path, name, settings):
    cfg = config.Evaluation(**settings)
    folder = identity.folder(tmp_path, cfg)
    assert folder == (tmp_path / results.FOLDER / name if name else tmp_path / results.FOLDER)
    assert bool(identity.variant(cfg)) == bool(name)
    assert identity.folder(tmp_path, dataclasses.replace(cfg, beams=7, batch=3)) == folder
    plain = identity.plain(dataclasses.replace(cfg, beams=7))
    assert plain == config.Evaluation(beams=7) and identity.variant(plain) == []
    identity.require_plain(plain, "this")
    if name:
        with pytest.raises(config.ConfigError, match="this has no variants"):
            identity.require_plain(cfg, "this")


def test_a_folder_for_many_long_names_is_short_and_its_own(tmp_path):
    names = tuple(f"a long column {n}" for n in range(30))
    folders = {
        identity.folder(tmp_path, config.Evaluation(withheld_features=some)).name for some in (names, names[:-1])
    }
    assert len(folders) == 2 and max(map(len, folders)) < 150
