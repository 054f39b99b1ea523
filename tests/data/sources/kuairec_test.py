"""KuaiRec as published: times in UTC+8 without a zone, missing times, captions over several lines."""

import published

from genrec.data.sources import kuairec


def test_local_times_and_unix_times_are_one_clock(tmp_path):
    tables = kuairec.read(published.kuairec(tmp_path), "small")
    assert published.sequences(tables) == {"14": ["183", "148"]}  # of the latter only the local time is known
    times = [row["timestamp"].isoformat() for row in tables.interactions.table.to_pylist()]
    assert times == ["2020-07-04T21:27:48.378000+00:00", "2020-07-04T21:27:48.377000+00:00"]
    assert len(kuairec.read(tmp_path).interactions) == 1  # the big matrix


def test_captions_with_commas_and_lines_are_read(tmp_path):
    items = published.rows(kuairec.read(published.kuairec(tmp_path), "small").items)
    assert items["148"]["title"] == "精神小伙路难走,程哥你狗粮慢点撒\n第二行 五爱街,小伙"
    assert items["148"]["categories"] == ["颜值", "颜值随拍"] and items["148"]["tags"] == ["tag27", "tag9"]
    assert items["183"] == {"item_id": "183", "title": None, "categories": ["高新数码"], "tags": ["tag1"]}


def test_quoted_captions_are_read(tmp_path):
    folder = published.kuairec(tmp_path)
    path = folder / "KuaiRec 2.0/data/kuairec_caption_category.csv"
    rows = '148,"UNKNOWN","a, b\n""c""","[x,y]",8,A,-124,UNKNOWN,-124,UNKNOWN\n'
    path.write_text(path.read_text(encoding="utf-8").partition("\n")[0] + "\n" + rows, encoding="utf-8")
    item = published.rows(kuairec.read(folder, "small").items)["148"]
    assert "a, b" in item["title"] and "x,y" in item["title"] and item["categories"] == ["A"]
