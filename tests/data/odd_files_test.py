"""Files as users have them are read as they were meant, the same from every format, or refused with what to do."""

import csv
import datetime
import decimal
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.config import Data, Prompts
from genrec.data import attributes, cells, csv_files, filtering, reading, splits, statistics, timestamps, validation
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError, Problems
from genrec.data.filters import Condition
from genrec.data.prepare import prepare
from genrec.data.sources import read as sources
from genrec.input_pipeline import prompts

ENDINGS = (".csv", ".jsonl", ".parquet")
ITEMS = [{"item_id": str(item), "title": f"Title {item}"} for item in range(1, 6)]
SECONDS = 1_700_000_000


def write(path, rows):
    """Writes rows in the format of the ending; in CSV, None is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def checked(folder, log, ending=".csv", items=ITEMS, **changes):
    """Returns the config and the validated tables of a log and items in files of a format."""
    config = Data(interactions=write(folder / f"log{ending}", log), items=write(folder / f"items{ending}", items))
    for name, value in changes.items():
        setattr(config, name, value)
    tables = sources.read(config)
    sources.check_renamed(config, tables.all)
    return tables, validation.check(tables, config)


def plays(*times, column="timestamp", user="u"):
    """Returns a log of items 1, 2, ... at these times."""
    return [{"user_id": user, "item_id": str(item), column: time} for item, time in enumerate(times, start=1)]


def order_of(found):
    """Returns the items of the first user, oldest first, numbered from 1 as in `plays`."""
    return (splits.by_user(found[1].interactions).items + 1).tolist()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("column", "times"),
    [
        ("timestamp", [SECONDS + 0.9, SECONDS + 0.5, SECONDS + 0.1]),
        ("timestamp", ["2024-05-31T18:30:00.900Z", "2024-05-31 18:30:00.5", "2024-05-31T18:30:00.100001Z"]),
        ("timestamp", [SECONDS * 1000 + 3, SECONDS * 1000 + 2, SECONDS * 1000 + 1]),
        ("timestamp", [SECONDS * 10**6 + 3, SECONDS * 10**6 + 2, SECONDS * 10**6 + 1]),
        ("timestamp", [SECONDS * 10**9 + 3000, SECONDS * 10**9 + 2000, SECONDS * 10**9 + 1000]),
        ("timestamp", [datetime.datetime(2024, 1, 1, microsecond=part) for part in (3, 2, 1)]),
        ("order", [1.9, 1.2, 1.1]),
        ("order", [2**62 + 2, 2**62 + 1, 2**62]),
        ("order", [3e-7, 2e-7, 1e-7]),
        ("order", [".75", ".5", "-.25"]),
        ("timestamp", ["1.7000000009e9", "1.7000000005e+09", "17000000001E-1"]),
    ],
)
def test_the_order_within_a_second_is_kept(tmp_path, ending, column, times):
    assert order_of(checked(tmp_path, plays(*times, column=column), ending)) == [3, 2, 1]
    again = [{"user_id": "v", "item_id": "1", column: time} for time in times]  # three plays, no repetitions
    assert checked(tmp_path, again, ending)[1].repeated == 0


@pytest.mark.parametrize(("factor", "unit"), [(1, ""), (10**3, "milliseconds"), (10**9, "nanoseconds")])
def test_the_unit_of_times_is_recognized_and_said(tmp_path, factor, unit):
    tables, found = checked(tmp_path, plays(SECONDS * factor, (SECONDS + 1) * factor))
    assert found.interactions.timestamps.tolist() == [SECONDS * 10**6, (SECONDS + 1) * 10**6]
    assert sources.recognized(tables.all, found.time) == ([f"times in {unit}"] if unit else [])
    _, by_hand = checked(tmp_path, plays(5 * 10**9, 6 * 10**9), time_unit="ms")
    assert by_hand.interactions.timestamps.tolist() == [5 * 10**12, 6 * 10**12]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("times", "form"),
    [
        ((20220408, 20220409, 20220410), "%Y%m%d"),
        ((2022040800, 2022040812, 2022040923), "%Y%m%d%H"),
        ((202204080000, 202204081230, 202204092359), "%Y%m%d%H%M"),
        ((20220408000000, 20220408123059, 20220409235959), "%Y%m%d%H%M%S"),
        ((2021, 2022, 2023), ""),
        ((19_700, 19_701, 19_702), ""),
        (tuple(datetime.datetime(1970, 1, 1, 0, 0, 1, part) for part in range(3)), ""),  # pandas lacked the unit
    ],
)
def test_day_numbers_are_refused_and_a_format_reads_them(tmp_path, ending, times, form):
    _, found = checked(tmp_path, plays(*times), ending)
    extent = (int(found.interactions.timestamps.min()), int(found.interactions.timestamps.max()))
    with pytest.raises(DataError, match=f"within (1970|1976|2034).*data.time_format={form}"):
        validation.refuse_1970("log", extent, found.time, Data())
    validation.refuse_1970("log", extent, found.time, Data(time_unit="s"))
    if form:
        _, found = checked(tmp_path, plays(*times), ending, time_format=form)
        assert found.interactions.timestamps[0] == 1_649_376_000 * 10**6
        _, found = checked(tmp_path, plays(*(f"{time}.0" for time in times)), ending, time_format=form)
        assert found.interactions.timestamps[0] == 1_649_376_000 * 10**6


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        (pa.timestamp("s"), [2**45, 2**50], "after the year 2200 .2 rows"),
        (pa.timestamp("ms"), [SECONDS * 1000, 2**62], "after the year 2200 .1 row"),
        (pa.date32(), [20_000, 2**30], "after the year 2200 .1 row.*: 1073741824"),
        (pa.timestamp("s"), [SECONDS, -(2**45)], "before the year 1900"),
        (pa.string(), ["0001-01-01", str(SECONDS)], "before the year 1900 .1 row.*row 1: '0001-01-01'"),
    ],
)
def test_times_that_no_log_has_are_refused(tmp_path, kind, numbers, message):
    log = {"user_id": ["u", "u"], "item_id": ["1", "2"], "timestamp": pa.array(numbers, kind)}
    with pytest.raises(DataError, match=message):
        checked(tmp_path, pa.table(log), ".parquet")


def test_times_of_spark_are_read_whatever_their_year(tmp_path):
    times = [datetime.datetime(2024, 1, 1, microsecond=3), datetime.datetime(9999, 12, 31)]
    table = pa.table({"timestamp": pa.array(times, pa.timestamp("us"))})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet", use_deprecated_int96_timestamps=True)
    assert reading.read_table(tmp_path / "log.parquet").table["timestamp"].to_pylist() == times


@pytest.mark.parametrize("times", [(0, 999), (1_600_000_000, 1_700_000_000), (1_600_000_000_000, 1_700_000_000_000)])
def test_times_and_small_counts_are_accepted(tmp_path, times):
    _, found = checked(tmp_path, plays(*times))
    extent = (int(found.interactions.timestamps.min()), int(found.interactions.timestamps.max()))
    validation.refuse_1970("log", extent, found.time, Data())
    assert statistics.is_counted(f"{timestamps.readable(extent[1])} UTC") == (times[0] == 0)


def read_csv(path, content, **form):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return reading.read_table(path, reading.TableFormat(**form))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('item_id,title\n1,"x\n2,y\n3,z\n', "line 2.*not closed"),
        ('item_id,title\n1,x\n2,"y', "line 3.*not closed"),
        ('item_id,title\n1,"x\n2,"y"\n3,z\n', "line 2.*not closed"),
        ('item_id,title\n1,"x" y\n2,z\n', "line 2.*not closed"),
    ],
)
def test_an_open_quotation_mark_is_refused_with_its_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "items.csv", content)


def test_quotation_marks_escaped_by_backslashes_are_recognized(tmp_path):
    content = 'item_id,title,code\n1,"12\\"",\\N\n2,"say \\"hi\\", twice",a\\b\n3,"back\\\\",c\n'
    source = read_csv(tmp_path / "items.csv", content, missing_values=())
    assert source.table["title"].to_pylist() == ['12"', 'say "hi", twice', "back\\"]
    assert source.table["code"].to_pylist() == ["\\N", "a\\b", "c"] and "written" in source.marks[0]
    source = read_csv(tmp_path / "items.csv", 'item_id,title\n1,"a \\", b"\n2,"c"\n')  # else three cells
    assert source.table["title"].to_pylist() == ['a ", b', "c"] and "written" in source.marks[0]
    plain = 'item_id,title\n1,12" vinyl\n2,"a ""b"""\n3,"C:\\"\n'
    source = read_csv(tmp_path / "items.csv", plain)
    assert source.table["title"].to_pylist() == ['12" vinyl', 'a "b"', "C:\\"] and not source.marks


def test_the_header_is_read_as_the_rows_are(tmp_path):
    source = read_csv(tmp_path / "items.csv", 'item_id,"a \\"b\\", c"\n1,"d \\"e\\", f"\n')
    assert source.table.to_pylist() == [{"item_id": "1", 'a "b", c': 'd "e", f'}]
    for end in ("\n", "\r\n"):
        with pytest.raises(DataError, match="line 1.*several lines"):
            read_csv(tmp_path / "items.csv", f'item_id,"Release{end}date"{end}1,5{end}')
    with pytest.raises(DataError, match="line 1: 2 columns have no name.*several characters"):
        read_csv(tmp_path / "log.csv", "user_id||item_id||timestamp\na||1||5\n")


@pytest.mark.parametrize("separator", ["\t", ","])
def test_quotation_marks_can_be_a_part_of_the_text(tmp_path, separator):
    content = separator.join(("item_id", "title")) + "".join(
        f"\n{separator.join(row)}" for row in (("1", '"Rome'), ("2", 'B"'), ("3", '"C" live'))
    )
    with pytest.raises(DataError, match="line 4.*data.quoted=False"):
        read_csv(tmp_path / "items.csv", content)
    source = read_csv(tmp_path / "items.csv", content, quoted=False)
    assert source.table["title"].to_pylist() == ['"Rome', 'B"', '"C" live'] and source.where(2) == "line 4"
    assert not reading.TableFormat.of(Data(quoted=False)).quoted
    with pytest.raises(DataError, match="1 rows.*line 5 has 3.*in a value"):
        read_csv(tmp_path / "items.csv", f'{content}\n"4{separator}D"{separator}E\n', quoted=False)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.lists(st.tuples(*[st.text('ab"\\ ,;|\t\n', max_size=5)] * 2), min_size=1, max_size=6),
    st.sampled_from([",", "\t", ";", "|"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_written_as_csv_is_read_back(tmp_path_factory, rows, separator, quoting, end):
    path, text = tmp_path_factory.mktemp("csv") / "items.csv", io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([("item_id", "a", "b"), *((str(number), *row) for number, row in enumerate(rows))])
    scan_bytes, csv_files.SCAN_BYTES = csv_files.SCAN_BYTES, 3  # every boundary between parts occurs
    try:
        table = read_csv(path, text.getvalue(), missing_values=()).table
    finally:
        csv_files.SCAN_BYTES = scan_bytes
    assert table["item_id"].to_pylist() == [str(number) for number in range(len(rows))]
    assert list(zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)) == rows


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.tsv.gz"])
def test_separators_are_recognized_from_the_header(tmp_path, separator, name):
    lines = ("user_id,item_id,a;b|c", "u,1,x y", "u,2,z")
    content = "\n".join(line.replace(",", separator) for line in lines if separator in ",\t" or line != lines[0])
    if separator in ";|":
        content = separator.join(("user_id", "item_id", '"a,b"')) + "\n" + content
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    source = reading.read_table(tmp_path / name)
    assert source.table["item_id"].to_pylist() == ["1", "2"] and source.table.num_columns == 3
    assert bool(source.marks) == (separator != ",")


def test_a_separator_can_be_named(tmp_path):
    source = read_csv(tmp_path / "log.csv", "user_id^item_id\na,b^c\n", separator="^")
    assert source.table.to_pylist() == [{"user_id": "a,b", "item_id": "c"}]
    source = read_csv(tmp_path / "items.csv", "item_id;title\n1;a\n", separator="^")  # of another of the files
    assert source.table.to_pylist() == [{"item_id": "1", "title": "a"}]
    for text in ("tab", "\\t"):
        assert reading.TableFormat.of(Data(separator=text)).separator == "\t"


@pytest.mark.parametrize("ending", ENDINGS)
def test_texts_for_missing_values_are_no_values(tmp_path, ending):
    missing = ["nan", "NULL", "None", "\\N", ""]
    log = [{"user_id": user, "item_id": "1", "timestamp": str(time)} for time, user in enumerate([*missing, "a"])]
    with pytest.raises(DataError, match=r"user_id: empty id \(5 rows\).*data.missing_values"):
        checked(tmp_path, log, ending)
    _, found = checked(tmp_path, [row for row in log if row["user_id"]], ending, missing_values=())
    assert found.interactions.user_ids.tolist() == ["nan", "NULL", "None", "\\N", "a"]
    items = [
        {"item_id": str(n), "title": cell, "description": f"d{n}", "artist": cell} for n, cell in enumerate(missing)
    ]
    table = checked(tmp_path, plays("1", "2"), ending, items)[1].catalogue.items
    assert Catalogue(table, ("title", "description")).titles == [f"d{n}" for n in range(5)]
    assert table["artist"].null_count == 5 and len(set(Catalogue(table, ()).groups("artist").tolist())) == 5


@pytest.mark.parametrize("ending", ENDINGS)
def test_columns_can_have_other_names(tmp_path, ending):
    log = [{"visitor": "007", "track": "1", "at": "5"}, {"visitor": "007", "track": "2", "at": "4"}]
    items = [{"track": "1", "name": "A"}, {"track": "2", "name": "B"}]
    names = ("user_id=visitor", "item_id=track", "timestamp = at", "title=name")
    _, found = checked(tmp_path, log, ending, items, columns=names)
    assert found.interactions.user_ids.tolist() == ["007"] and order_of((None, found)) == [2, 1]
    assert found.catalogue.items["title"].to_pylist() == ["A", "B"]
    with pytest.raises(DataError, match="data.columns.*'rating'"):
        checked(tmp_path, log, ending, items, columns=(*names, "stars=rating"))
    both = [{**row, "user_id": "x"} for row in log]
    with pytest.raises(DataError, match="visitor.*user_id.*data.columns"):
        checked(tmp_path, both, ending, items, columns=names)


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_that_repeat_are_refused_dropped_or_kept(tmp_path, ending):
    log = [*plays("5", "6"), *plays("5")]
    with pytest.raises(DataError, match=f"{'row' if ending == '.parquet' else 'line'} [34].*data.repeated"):
        checked(tmp_path, log, ending)
    for choice, rows in (("drop", 2), ("keep", 3)):
        _, found = checked(tmp_path, log, ending, repeated=choice)
        assert (len(found.interactions), found.repeated) == (rows, 1)


@pytest.mark.parametrize("ending", ENDINGS)
def test_users_who_match_nobody_are_refused(tmp_path, ending):
    config = Data(interactions=write(tmp_path / f"log{ending}", plays("5", "6", "7", user="001")), k_core=0)
    config.items = write(tmp_path / f"items{ending}", ITEMS)
    config.users = write(tmp_path / f"users{ending}", [{"user_id": 1}])
    with pytest.raises(DataError, match=f"users{ending}.*'001'.*'1'.*zeros"):
        prepare(config, tmp_path / "dataset")


NESTED = [
    {"title": {"en": "A", "de": ["B", 3]}, "details": {"Brand": "x", "Weight": {"g": 1}}, "videos": [{}], "extra": {}},
    {"title": ["C", None], "details": {"Brand": None}, "videos": [], "extra": None},
    {"title": "D", "details": None, "videos": [{"url": "u"}], "extra": {}},
]


def test_nested_cells_become_texts_or_json(tmp_path):
    items = [{"item_id": str(number), **row} for number, row in enumerate(NESTED, start=1)]
    path = write(tmp_path / "items.jsonl", items)
    source = reading.read_table(path, reading.TableFormat(text_fields=("title",)))
    assert source.table["title"].to_pylist() == ["A, B, 3", "C", "D"]
    assert json.loads(source.table["details"][0].as_py()) == NESTED[0]["details"]
    assert source.table["videos"].to_pylist() == ["[{}]", "[]", '[{"url": "u"}]']
    assert source.table["extra"].to_pylist() == ["{}", None, "{}"]
    pyarrow.parquet.write_table(source.table, tmp_path / "written.parquet")


def test_structs_and_maps_of_parquet_become_texts_or_json(tmp_path):
    table = pa.table(
        {
            "item_id": ["1", "2"],
            "title": pa.array([[("en", "A")], None], pa.map_(pa.string(), pa.string())),
            "details": [{"Brand": "x", "size": {"g": 1}}, None],
            "prices": pa.array([[("EUR", 1.5)], []], pa.map_(pa.string(), pa.float64())),
            "tags": [["a", "b"], []],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "items.parquet")
    source = reading.read_table(tmp_path / "items.parquet", reading.TableFormat(text_fields=("title", "details")))
    assert source.table["title"].to_pylist() == ["A", None]
    assert source.table["details"].to_pylist() == ["x, 1", None]
    assert source.table["prices"].to_pylist()[0] == '{"EUR": 1.5}' and source.table["tags"].to_pylist()[0] == ["a", "b"]


def test_objects_of_many_keys_take_no_more_than_the_file(tmp_path):
    path = write(tmp_path / "items.jsonl", [{"item_id": str(n), "by": {f"user-{n}": n}} for n in range(3000)])
    assert reading.read_table(path).table.nbytes < 4 * len((tmp_path / "items.jsonl").read_bytes())


ATTRIBUTES = {
    "price": [4.2, 4.9, 9.99, 9.5, None],
    "year": [1999, 2001, None, 2024, 2001],
    "explicit": [True, False, True, None, False],
    "released": [datetime.date(2023, 12, 31), datetime.date(2024, 1, 1), None, datetime.date(2024, 12, 31), None],
    "seen": [datetime.datetime(2024, 1, day, 12) if day < 5 else None for day in range(1, 6)],
    "code": ["007", "12", None, "7", "08"],
    "artist": ["Ada", None, "Calm", "Ada", "Bo"],
}


def as_numpy_would(name, values):
    """Returns the Parquet column of a library that knows float32, decimals, or integers that may be missing."""
    if name == "price":
        return pa.array(values, pa.float32())
    return pa.array([value if value is None else float(value) for value in values]) if name == "year" else values


@pytest.mark.parametrize("ending", [*ENDINGS, "float.parquet", "text.parquet"])
def test_attributes_have_the_same_types_from_every_format(tmp_path, ending):
    columns = {"item_id": [str(n) for n in range(1, 6)], "title": ["1", "2", "true", "2024-01-01", "5"], **ATTRIBUTES}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if ending == "text.parquet":
        rows = [{name: cell if cell is None else str(cell) for name, cell in row.items()} for row in rows]
    if ending == "float.parquet":
        rows = pa.table({name: as_numpy_would(name, values) for name, values in columns.items()})
    if ending == ".csv":  # as spreadsheets write them
        rows = [{**row, "explicit": {True: "TRUE", False: "False"}.get(row["explicit"])} for row in rows]
    source = reading.read_table(write(tmp_path / f"items{'' if ending[0] == '.' else '-'}{ending}", rows))
    table, types = attributes.convert(source, source.table, ("title",), {}, Problems())
    assert types == {
        "price": "number",
        "year": "number",
        "explicit": "boolean",
        "released": "date",
        "seen": "date",
        "code": "text",
        "artist": "text",
    }
    for name, values in columns.items():
        assert table[name].to_pylist() == values, name
    catalogue = Catalogue(table, ("title",))
    for text, expected in (
        ("price>=9.5", [2, 3]),
        ("price<=4.9", [0, 1]),
        ("price=4.90", [1]),
        ("explicit=true", [0, 2]),
        ("year=2001.0", [1, 4]),
        ("released>=2024", [1, 3]),
        ("released<=2024", [0, 1, 3]),
        ("seen=2024-01-02", [1]),
        ("code=7", [3]),
    ):
        assert np.flatnonzero(Condition.parse(text).mask(catalogue)).tolist() == expected, text


def found_by(folder, ending, columns, conditions):
    """Checks which items, of 1, 2, ... with these columns, fulfill each condition."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    items = [{"item_id": str(number), "title": "a", **row} for number, row in enumerate(rows, start=1)]
    _, found = checked(folder, plays("5"), ending, items)
    catalogue = Catalogue(found.catalogue.items, ("title",))
    for text, expected in conditions.items():
        assert (np.flatnonzero(Condition.parse(text).mask(catalogue)) + 1).tolist() == expected, text


def test_dates_without_a_day_are_dates(tmp_path):
    conditions = {"day>=2024": [1, 5], "day<=2023": [2, 3], "day=2023-12": [2, 3], "day>=2024-02": [5]}
    found_by(tmp_path, ".csv", {"day": ["2024", "2023-12", "2023-12-31", "", "2024-02"]}, conditions)


def test_lists_are_compared_by_value(tmp_path):
    columns = {"sizes": [[1.5, 2.0], [2], []], "tags": [[1, "a"], [True], ["b"]], "flags": [[True], [], [False]]}
    conditions = {"sizes~2.0": [1, 2], "sizes~2": [1, 2], "sizes~1.5": [1], "sizes~x": [], "flags~True": [1]}
    found_by(tmp_path, ".jsonl", columns, conditions | {"tags~1": [1], "tags~a": [1], "tags~true": [2]})


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_list_is_the_set_of_its_values_in_groups_and_prompts(tmp_path, ending):
    items = [
        {**item, "tags": tags} for item, tags in zip(ITEMS, [["x", "y"], ["y", "x", "x"], ["y"], [], None], strict=True)
    ]
    catalogue = Catalogue(checked(tmp_path, plays("5"), ending, items)[1].catalogue.items, ("title",))
    groups = catalogue.groups("tags").tolist()
    assert groups[0] == groups[1] and len(set(groups)) == 4
    sampler = prompts.PromptSampler(Prompts(columns=("tags:about",)), catalogue)
    assert sampler.values["tags"] == [("x", "y"), ("y", "x"), ("y",), (), ()]


def test_a_cell_that_is_no_list_contains_what_it_equals(tmp_path):
    columns = {"price": ["9.99", "4.90"], "seen": ["2024-01-01T10:00:00Z", "2023-12-31"], "kids": ["True", "false"]}
    conditions = {"price~4.9,5": [2], "price!~9.990": [2], "seen~2024-01-01": [1], "seen~2023": [2], "kids~true": [1]}
    found_by(tmp_path, ".csv", columns, conditions)


def test_lists_of_decimals_are_numbers(tmp_path):
    prices = pa.array([[decimal.Decimal("9.90")], [], None], pa.list_(pa.decimal128(5, 2)))
    vectors = pa.array([[decimal.Decimal("1.5")], [decimal.Decimal(2)], None], pa.list_(pa.decimal128(5, 2)))
    items = pa.table({"item_id": ["1", "2", "3"], "title": list("abc"), "prices": prices, "vector": vectors})
    _, found = checked(tmp_path, plays("5"), ".parquet", items)
    assert found.catalogue.items["vector"].to_pylist() == [[1.5], [2.0], None]
    mask = Condition.parse("prices~9.9").mask(Catalogue(found.catalogue.items, ("title",)))
    assert mask.tolist() == [True, False, False]


def test_bytes_that_are_no_text_are_kept_in_hexadecimal_digits(tmp_path):
    items = pa.table({"item_id": ["1", "2"], "title": ["a", "b"], "hash": [b"\xff\x01", None]})
    _, found = checked(tmp_path, plays("5"), ".parquet", items)
    assert found.catalogue.items["hash"].to_pylist() == ["ff01", None]


def test_types_can_be_declared(tmp_path):
    items = [
        {**item, "zip": f"1234{n}", "price": "free" if n == 2 else n, "kids": n % 2} for n, item in enumerate(ITEMS)
    ]
    _, found = checked(tmp_path, plays("5"), items=items, types=("zip=text", "kids=boolean"))
    assert found.catalogue.items["zip"].to_pylist()[0] == "12340" and found.catalogue.items["kids"].type == pa.bool_()
    assert found.catalogue.types["items"] == {"zip": "text", "price": "text", "kids": "boolean"}
    coded = [{**item, "size": f"00{n}", "day": 20240530 + n} for n, item in enumerate(ITEMS[:2])]
    _, found = checked(tmp_path, plays("5"), items=coded, types=("size=number", "day=date"))
    assert found.catalogue.items["size"].to_pylist() == [0, 1]
    assert found.catalogue.items["day"].to_pylist() == [datetime.date(2024, 5, 30), datetime.date(2024, 5, 31)]
    with pytest.raises(DataError, match="column price: not a number.*line 4: 'free'.*data.types"):
        checked(tmp_path, plays("5"), items=items, types=("price=number",))
    with pytest.raises(DataError, match="prize"):
        checked(tmp_path, plays("5"), items=items, types=("prize=number",))


def test_rarer_types_of_parquet_are_read(tmp_path):
    columns = {
        "user_id": pa.array([decimal.Decimal(7), decimal.Decimal(8)], pa.decimal128(20, 0)),
        "item_id": pa.array([2**64 - 1, 5], pa.uint64()),
        "timestamp": pa.array(["2020-01-01", "2020-01-02"]).dictionary_encode(),
        "event_type": pa.array(["a", "b"], pa.large_string()),
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    ids = {"item_id": pa.array([b"18446744073709551615", b"5"]), "title": pa.array(["x", "y"]).dictionary_encode()}
    pyarrow.parquet.write_table(pa.table(ids), tmp_path / "items.parquet")
    config = Data(interactions=str(tmp_path / "log.parquet"), items=str(tmp_path / "items.parquet"))
    log = validation.check(sources.read(config), config).interactions
    assert log.user_ids.tolist() == ["7", "8"] and log.items.tolist() == [0, 1]
    assert log.timestamps.tolist() == [1_577_836_800 * 10**6, 1_577_923_200 * 10**6]
    for column in (pa.array(["x", None], pa.string_view()), pa.array(["x", None], pa.large_string())):
        assert cells.plain(column, is_text=True).to_pylist() == ["x", None]


def test_lists_of_one_size_with_a_gap_are_refused_with_the_remedy(tmp_path):
    vectors = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    path = write(tmp_path / "items.parquet", pa.table({"item_id": ["1", "2"], "vector": vectors}))
    with pytest.raises(DataError, match="lists of any size"):
        reading.read_table(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(tmp_path, end):
    source = read_csv(tmp_path / "items.csv", end.join(["item_id,title", "1,A", '2,"B"', ""]))
    assert source.table.to_pylist() == [{"item_id": "1", "title": "A"}, {"item_id": "2", "title": "B"}]
    assert source.where(1) == "line 3"


def test_a_row_longer_than_a_block_is_read(tmp_path):
    rows = [f"{n},{'x' * (20_000 if n in (50, 120) else 5)}" for n in range(200)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title", *rows]) + "\n")
    blocks = list(reading.read_blocks(tmp_path / "items.csv", 500))
    whole = reading.concatenate(blocks)
    assert whole.table["item_id"].to_pylist() == [str(n) for n in range(200)]
    assert [whole.where(row) for row in (0, 51, 199)] == ["line 2", "line 53", "line 201"]
    assert len(whole.table["title"][50].as_py()) == 20_000


def test_a_long_cell_with_escapes_is_read(tmp_path):
    long = "x" * (csv_files.SCAN_BYTES + 5)
    source = read_csv(tmp_path / "items.csv", f'item_id,title\n1,"{long} \\"a\\""\n2,b\n')
    assert source.table["title"].to_pylist() == [f'{long} "a"', "b"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused_with_the_command_that_converts(tmp_path, ending, encoding):
    content = "item_id,title\n1,Café\n" if ending == "csv" else '{"item_id": "1"}\n{"title": "Café"}\n'
    (tmp_path / f"items.{ending}").write_bytes(content.encode(encoding))
    with pytest.raises(DataError, match=f"(?i)line {2 if encoding == 'latin-1' else 1}.*UTF-8.*iconv -f {encoding}"):
        reading.read_table(tmp_path / f"items.{ending}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item_id,title\n1,“Café”\n".encode("cp1252"), "cp1252"),
        ("item_id,title\n1,Café\n".encode("utf-16-le"), "UTF-16LE"),
        ("item_id,title\n1,Café\n".encode("utf-16-be"), "UTF-16BE"),
        (gzip.compress(b"item_id,title\n1,a\n", mtime=0), "compressed.*.gz"),
        (b"PK\x03\x04\xff", "archive"),
        (b"PAR1\x15", "parquet"),
    ],
)
def test_files_that_are_no_text_are_refused_with_what_they_are(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "items.csv", content)


@pytest.mark.parametrize("value", ["\ud83d", {"a": ["\udc00"]}, ["\ud83d"]])
def test_half_a_character_is_refused_with_its_line(tmp_path, value):
    path = write(tmp_path / "items.jsonl", [{"item_id": "1", "a": "x"}, {"item_id": "2", "a": value}])
    with pytest.raises(DataError, match="line 2, column a.*surrogate"):
        reading.read_table(path)
    with pytest.raises(DataError, match="name .*half of a character"):
        reading.read_table(write(tmp_path / "items.jsonl", [{"item_id": "1", "\ud83d": 1}]))


def test_integers_beyond_64_bits_are_ids_and_texts(tmp_path):
    path = write(tmp_path / "items.jsonl", [{"item_id": 2**70, "title": "x", "size": 2**70, "sizes": [2**70]}])
    row = reading.read_table(path).table.to_pylist()[0]
    assert (row["item_id"], row["size"], row["sizes"]) == (str(2**70), str(2**70), [str(2**70)])


def test_ties_and_pairs_are_counted():
    times = np.array([1, 1, 2, 2, 2, 3])
    sequences = splits.UserSequences(np.array([0, 3, 6]), np.array([4, 4, 5, 4, 5, 5]), times)
    assert (sequences.ties, sequences.pairs) == (4, 4)
    figures = statistics.summarize(
        statistics.Source(6, 2, (), {"items": {}}),
        lengths=sequences.lengths,
        popularity=np.array([3, 3]),
        pairs=sequences.pairs,
        ties=sequences.ties,
        times=None,
        sequences={},
        catalogue=pa.table({"item_id": ["a", "b"]}),
        users_with_attributes=1,
    )
    assert (
        figures["density"] == 1 and "66.7%" in statistics.table(figures) and "1 have none" in statistics.table(figures)
    )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60), st.integers(2, 4))
def test_k_core_is_the_same_node_by_node(pairs, k):
    users, items = np.array(pairs).T
    rounds = filtering.ROUNDS
    try:
        filtering.ROUNDS = 1
        found = filtering.k_core(users, items, k)
    finally:
        filtering.ROUNDS = rounds
    expected = np.ones(len(users), bool)
    while True:
        counts = [np.bincount(ids[expected], minlength=9)[ids] for ids in (users, items)]
        still = expected & (counts[0] >= k) & (counts[1] >= k)
        if (still == expected).all():
            break
        expected = still
    assert found.tolist() == expected.tolist()
    chain = np.arange(20_000)
    assert not filtering.k_core(np.repeat(chain, 2), np.repeat(chain, 2) + np.tile([0, 1], 20_000), 2).any()
