"""KuaiRand as published: clicks of both standard logs, absolute milliseconds, numbers for tags."""

import published

from genrec.data.sources import kuairand


def test_clicks_of_the_standard_logs_are_read(tmp_path):
    tables = kuairand.read(published.kuairand(tmp_path))
    assert published.sequences(tables) == {"0": ["20", "10", "10"]}
    log = tables.interactions.table.to_pylist()
    assert [row["event_type"] for row in log] == ["click", "long_view", "long_view"]
    assert log[0]["timestamp"].isoformat() == "2022-04-11T11:11:52.388000+00:00"  # 19 h in UTC+8
    items = published.rows(tables.items)
    assert set(items) == {"10", "20"}
    assert items["10"]["tags"] == ["tag39", "tag11"] and items["10"]["author"] == "author123"
    assert (
        items["20"]["tags"] == [] and items["20"]["music"] == "music6355810746" and items["20"]["duration_ms"] is None
    )
    assert published.rows(tables.users)["0"]["user_active_degree"] == "full_active"
