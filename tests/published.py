"""Small public datasets, written by the tests in the layouts in which they are published, with their odd traits."""

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet


def put(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    """Writes a file into a folder, gzipped where its name ends in .gz."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def lines(rows: Iterable[object], form: Callable[[object], str] = json.dumps) -> str:
    return "".join(form(row) + "\n" for row in rows)


def amazon_2023(folder: Path, end: str = "jsonl") -> Path:
    """Writes the category All_Beauty: user A1 reviewed variants of three products, the latest first."""
    user = "AGKHLEW2SOWHNMFQIJGBECAF7INQ"
    reviews = [
        {
            "rating": rating,
            "title": 'Such a "lovely" scent',
            "text": "This spray is\nreally nice.<br />",
            "images": [] if ms % 2 else [{"small_image_url": "https://x/1.jpg", "attachment_type": "IMAGE"}],
            "asin": f"{item}V",
            "parent_asin": item,
            "user_id": user,
            "timestamp": ms,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for item, rating, ms in (("B3", 5.0, 1588687728923), ("B2", 4.0, 1588687728922), ("B1", 1.0, 1588615855070))
    ]
    reviews.append(reviews[1])  # published files repeat some
    meta = [
        {
            "main_category": "All Beauty",
            "title": "Howard LC0008 Leather Conditioner, 8-Ounce (4-Pack)",
            "average_rating": 4.8,
            "rating_number": 10,
            "features": ["Cleans and protects", "8 oz"],
            "description": [],
            "price": 12.99,
            "images": [{"thumb": "https://x/t.jpg", "large": "https://x/l.jpg", "variant": "MAIN", "hi_res": None}],
            "videos": [],
            "store": "Howard Products",
            "categories": ["Beauty", "Skin"],
            "details": {"Package Dimensions": "7.1 x 5.5 x 3 inches; 2.38 Pounds", "UPC": "617390882781"},
            "parent_asin": "B1",
            "bought_together": None,
        },
        {"main_category": None, "title": "", "price": None, "store": None, "categories": [], "parent_asin": "B2"},
        {"title": "Yes to Tomatoes", "price": "from 7.49", "store": "Yes To", "details": {}, "parent_asin": "B3"},
        {"title": "Never reviewed", "price": "—", "features": [], "description": ["x"], "parent_asin": "B9"},
    ]
    put(folder, "meta_All_Beauty.jsonl.gz" if end.endswith("gz") else "meta_All_Beauty.jsonl", lines(meta))
    if end.startswith("csv"):
        rows = [f"{row['user_id']},{row['parent_asin']},{row['rating']},{row['timestamp']}\n" for row in reviews]
        put(folder, f"All_Beauty.{end}", "user_id,parent_asin,rating,timestamp\n" + "".join(rows))
    else:
        put(folder, f"All_Beauty.{end}", lines(reviews))
    return folder


def amazon_2018(folder: Path) -> Path:
    """Writes the category Luxury_Beauty, 5-core: two reviews on one day, one of them twice."""
    review = {
        "overall": 5.0,
        "verified": True,
        "reviewTime": "09 1, 2016",
        "reviewerID": "A3CIUOJXQ5VDQ2",
        "asin": "B0000530HU",
        "style": {"Size:": " 7.0 oz", "Flavor:": " Classic Ice Blue"},
        "reviewerName": "Shelly F",
        "reviewText": "As advertised.\nReasonably priced",
        "summary": "Five Stars",
        "unixReviewTime": 1472688000,
    }
    reviews = [
        review | {"asin": "B00006L9LC", "vote": "5", "image": ["https://x/1.jpg"]},
        review,
        review,
        review | {"asin": "B00021DJ32", "unixReviewTime": 1472601600, "overall": 2.0},
    ]
    meta = [
        {
            "category": [],
            "tech1": "",
            "description": ["Loud &amp; Clear <b>8&quot;</b>", ""],
            "fit": "",
            "title": "Aqua Velva After Shave &amp; Balm",
            "also_buy": [],
            "image": [],
            "tech2": "",
            "brand": "Aqua Velva",
            "feature": [],
            "rank": "2,938,573 in Beauty",
            "also_view": [],
            "details": {"ASIN: ": "B0000530HU"},
            "main_cat": "All Beauty",
            "similar_item": "",
            "date": "",
            "price": "$1,012.50",
            "asin": "B0000530HU",
        },
        {"title": "repeated", "price": "$1", "asin": "B0000530HU"},
        {
            "category": ["Beauty", "Hair"],
            "title": "var aPageStart = (new Date()).getTime();",
            "description": [],
            "feature": ["x"],
            "brand": "",
            "price": ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{background-color:#fffbf3}",
            "rank": ["a", "b"],
            "asin": "B00006L9LC",
        },
    ]
    put(folder, "Luxury_Beauty_5.json.gz", lines(reviews))
    put(folder, "meta_Luxury_Beauty.json.gz", lines(meta))
    return folder


def movielens(folder: Path, layout: str, users: int = 1) -> Path:
    """Writes MovieLens as 100k, 1m, 10m or 20m: each user rated three films, the second one first."""
    films = [("1", "Toy Story (1995)"), ("2", "Cité des enfants perdus, La (1995)"), ("3", 'Film "X"')]
    ratings = [
        (str(user), item, rating, time + user)
        for user in range(1, users + 1)
        for item, rating, time in (("1", 5, 978302000), ("2", 3, 978301000), ("3", 4, 978303000))
    ]
    if layout == "100k":
        put(folder, "ml-100k/u.data", "".join("\t".join(map(str, row)) + "\n" for row in ratings))
        flags = ["0|0|0|1|1|1" + "|0" * 13, "0" + "|0" * 18, "1" + "|0" * 18]
        rows = [f"{item}|{title}|01-Jan-1995||http://us.imdb.com/M/{item}|" for item, title in films]
        items = "".join(row + flag + "\n" for row, flag in zip(rows, flags, strict=True))
        put(folder, "ml-100k/u.item", items, "latin-1")
        put(folder, "ml-100k/u.user", "".join(f"{u}|24|M|technician|85711\n" for u in range(1, users + 1)))
        put(folder, "ml-100k/u1.base", "ignored")
    elif layout in ("1m", "10m"):
        top = f"ml-{layout.replace('10m', '10M100K')}"
        put(folder, f"{top}/ratings.dat", "".join("::".join(map(str, row)) + "\n" for row in ratings))
        genres = ("Animation|Children's|Comedy", "Adventure|Sci-Fi", "(no genres listed)")
        rows = ["::".join((*film, genre)) + "\n" for film, genre in zip(films, genres, strict=True)]
        put(folder, f"{top}/movies.dat", "".join(rows), "latin-1" if layout == "1m" else "utf-8")
        if layout == "1m":
            put(folder, f"{top}/users.dat", "".join(f"{u}::F::1::10::48067\n" for u in range(1, users + 1)))
    else:
        rows = [f"{user},{item},{rating}.0,{time}\n" for user, item, rating, time in ratings]
        put(folder, "ml-20m/ratings.csv", "userId,movieId,rating,timestamp\n" + "".join(rows))
        put(
            folder,
            "ml-20m/movies.csv",
            "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
            '2,"Cité des enfants perdus, La (1995)",Adventure\n3,"Film ""X""",(no genres listed)\n',
        )
        put(folder, "ml-20m/tags.csv", "userId,movieId,tag,timestamp\n1,1,fun,978302001\n")
    return folder


def recbole(folder: Path) -> Path:
    put(
        folder,
        "ml-100k/ml-100k.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "196\t242\t3\t881250949.5\n196\t007\t3.5\t881250949\n22\t242\t1\t878887116\n",
    )
    put(
        folder,
        "ml-100k/ml-100k.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tscore:float\tv:float_seq\n"
        '242\tKolya "the" boy\t1996\tComedy Drama\t7.5\t0.1 0.2\n007\tGoldenEye\t1995\tAction\t\t\n',
    )
    put(folder, "ml-100k/ml-100k.user", "user_id:token\tage:token\tgender:token\n196\t49\tM\n22\t25\tM\n")
    return folder


def lcrec(folder: Path, users: int = 2) -> Path:
    """Writes the dataset Games of twelve items, with semantic IDs of which no two are equal, and vectors."""
    items = 12
    rng = np.random.default_rng(0)
    inter = {str(user): rng.permutation(items)[:6].tolist() for user in range(users)}
    item = {
        str(i): {
            "title": f"Game {'abcdefghijkl'[i]}",
            "description": f"{'red' if i % 2 else 'blue'} dice",
            "brand": "B",
        }
        for i in range(items)
    }
    index = {str(i): [f"<a_{i % 3}>", f"<b_{i // 3}>", f"<c_{i % 2}>", "<d_0>"] for i in range(items)}
    put(folder, "Games/Games.inter.json", json.dumps(inter))
    put(folder, "Games/Games.item.json", json.dumps(item))
    put(folder, "Games/Games.index.json", json.dumps(index))
    np.save(folder / "Games/Games.emb-llama-td.npy", rng.normal(size=(items, 8)).astype(np.float32))
    put(folder, "Games/Games.train.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\n0\t1 2\t3\n")
    return folder


def s3rec(folder: Path) -> Path:
    put(folder, "Beauty.txt", "1 1 2 3\n2 3 1\n")
    put(folder, "Beauty_sample.txt", "1 9 9\n")
    put(folder, "Beauty_item2attributes.json", json.dumps({"1": [1, 2], "2": [2], "3": [3]}))
    put(folder, "Toys_and_Games.txt", "1 7 8\n")
    put(folder, "Toys_and_Games_item2attributes.json", json.dumps({"7": [1], "8": [1]}))
    return folder


def lightgcn(folder: Path) -> Path:
    put(folder, "gowalla/train.txt", "0 0 1 2\n1 2 0\n2\n")
    put(folder, "gowalla/test.txt", "0 3\n1 \n2 1\n")
    put(folder, "gowalla/user_list.txt", "org_id remap_id\n196514 0\n")
    put(folder, "gowalla/item_list.txt", "org_id remap_id\n420315 0\n316637 1\n16516 2\n5535878 3\n")
    return folder


def mind(folder: Path) -> Path:
    entity = json.dumps([{"Label": "Drew", "Type": "P", "WikidataId": "Q1", "SurfaceForms": ["Drew"]}])
    news = [
        f'N{i}\tlifestyle\troyals\tThe "Brands" {i}\t{"" if i == 3 else "Shop the"}\thttps://x/{i}.html\t{entity}\t[]\n'
        for i in range(1, 8)
    ]
    train = [
        "1\tU1\t11/12/2019 2:14:46 PM\tN1 N2\tN3-1 N4-0\n",
        "2\tU1\t11/12/2019 12:05:01 AM\tN1 N2\tN5-0 N4-1\n",
        "3\tU2\t11/9/2019 8:55:22 AM\t\tN4-0 N5-1 N6-1\n",
    ]
    put(folder, "MINDsmall_train/behaviors.tsv", "".join(train))
    put(folder, "MINDsmall_train/news.tsv", "".join(news[:6]))
    put(folder, "MINDsmall_dev/behaviors.tsv", "1\tU2\t11/15/2019 8:55:22 AM\tN5\tN7-1 N1-0\n")
    put(folder, "MINDsmall_dev/news.tsv", "".join(news[3:]))
    put(folder, "MINDlarge_test/behaviors.tsv", "1\tU2\t11/16/2019 8:55:22 AM\tN5 N7\tN1 N2\n")
    put(folder, "MINDlarge_test/news.tsv", "".join(news))
    return folder


def million_playlist(folder: Path) -> Path:
    def track(pos: int, name: str) -> dict:
        return {
            "pos": pos,
            "artist_name": "Missy Elliott",
            "track_uri": f"spotify:track:{name}",
            "artist_uri": "spotify:artist:2wIVse2owClT7go1WT98tk",
            "track_name": f"Lose {name}",
            "album_uri": "spotify:album:6vV5UrXcfyQD1wu4Qo2I9K",
            "duration_ms": 226863,
            "album_name": "The Cookbook",
        }

    def playlist(pid: int, tracks: list[dict]) -> dict:
        counts = {"num_tracks": len(tracks), "num_albums": 1, "num_followers": 1, "num_edits": 6, "num_artists": 1}
        names = {"name": "Throwbacks", "collaborative": "false", "pid": pid, "modified_at": 1493424000}
        return names | counts | {"tracks": tracks, "duration_ms": 1}

    slices = {
        "0-999": [playlist(0, [track(1, "b"), track(0, "a"), track(2, "a")])],
        "1000-1999": [playlist(1000, [track(0, "a"), track(1, "c")]) | {"description": "mine"}],
        "10000-10999": [playlist(10000, [track(0, "d")])],
    }
    for name, playlists in slices.items():
        info = {"generated_on": "2017-12-03 08:41:42.057563", "slice": name, "version": "v1"}
        put(folder, f"data/mpd.slice.{name}.json", json.dumps({"info": info, "playlists": playlists}, indent=4))
    return folder


def lastfm_1k(folder: Path) -> Path:
    """Writes plays, the newest first; a track has no id, another a quotation mark, a play is there twice."""
    plays = [
        ("user_000001", "2009-05-04T23:08:57Z", "f1b1cf71", "Deep Dish", "", "Fuck Me Im Famous (Pacha Ibiza)"),
        ("user_000001", "2009-05-04T13:54:10Z", "a7f7df4a", "坂本龍一", "t2", 'Composition 0919 ("Live")'),
        ("user_000001", "2009-05-04T13:54:10Z", "a7f7df4a", "坂本龍一", "t2", 'Composition 0919 ("Live")'),
        ("user_000001", "2009-05-03T15:48:25Z", "a7f7df4a", "坂本龍一", "t3", '"Bibo no Aozora'),
        ("user_000002", "2006-02-13T18:00:00Z", "", "Deep Dish", "", "Fuck Me Im Famous (Pacha Ibiza)"),
    ]
    name = "lastfm-dataset-1K/userid-timestamp-artid-artname-traid-traname.tsv"
    put(folder, name, "".join("\t".join(play) + "\n" for play in plays))
    profile = (
        "#id\tgender\tage\tcountry\tregistered\nuser_000001\tm\t\tJapan\tAug 13, 2006\nuser_000002\tf\t24\tPeru\t\n"
    )
    put(folder, "lastfm-dataset-1K/userid-profile.tsv", profile)
    return folder


def hetrec(folder: Path, layout: str) -> Path:
    if layout == "lastfm":
        rows = [
            "2\t52\t13\t1238536800001",
            "2\t52\t15\t1238536800001",
            "2\t63\t13\t1238536800000",
            "2\t9\t13\t1238536800002",
        ]
        rows.append("3\t63\t13\t-428720400000")
        log = "userID\tartistID\ttagID\ttimestamp\r\n" + "".join(f"{row}\r\n" for row in rows)
        put(folder, "user_taggedartists-timestamps.dat", log)
        artists = "id\tname\turl\tpictureURL\r\n52\tMorcheeba\thttp://www.last.fm/music/M\thttp://x/52.jpg\r\n"
        put(folder, "artists.dat", artists + "63\tEnya\thttp://www.last.fm/music/E\t\r\n")
        put(folder, "user_artists.dat", "userID\tartistID\tweight\r\n2\t52\t13883\r\n")
        return folder
    log = "userID\tmovieID\trating\ttimestamp\r\n75\t3\t1\t1162160236000\r\n75\t32\t4.5\t1162160624000\r\n"
    put(folder, "user_ratedmovies-timestamps.dat", log)
    header = "id\ttitle\timdbID\tspanishTitle\timdbPictureURL\tyear\trtID\r\n"
    movies = "3\tLes Misérables\t0113041\tViejos\thttp://x.jpg\t1993\tgrumpy\r\n"
    movies += "32\tTwelve Monkeys\t0114746\t\t\t1995\t\\N\r\n"
    put(folder, "movies.dat", header + movies, "latin-1")
    put(folder, "movie_genres.dat", "movieID\tgenre\r\n3\tComedy\r\n3\tRomance\r\n")
    return folder


def otto(folder: Path) -> Path:
    sessions = [
        {
            "session": 0,
            "events": [
                {"aid": 1517085, "ts": 1659304800025, "type": "clicks"},
                {"aid": 1517085, "ts": 1659304800026, "type": "carts"},
                {"aid": 59625, "ts": 1659304904511, "type": "orders"},
            ],
        },
        {"session": 12899779, "events": [{"aid": 59625, "ts": 1661724000278, "type": "clicks"}]},
    ]
    put(folder, "otto-recsys-train.jsonl", lines(sessions))
    return folder


def kuairand(folder: Path) -> Path:
    columns = (
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
        "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
    )
    tail = "0,0,0,0,0,{},1385,209900,0,0,0,0,1\n"
    first = "0,10,20220411,1900,1649675512388,1," + tail.format(0)
    first += (
        "0,20,20220411,1900,1649675512387,1," + tail.format(1) + "0,30,20220416,2000,1650111976017,0," + tail.format(0)
    )
    put(folder, "KuaiRand-1K/data/log_standard_4_08_to_4_21_1k.csv", columns + first)
    second = "0,10,20220422,100,1650560500000,1," + tail.format(1)
    put(folder, "KuaiRand-1K/data/log_standard_4_22_to_5_08_1k.csv", columns + second)
    put(
        folder,
        "KuaiRand-1K/data/log_random_4_22_to_5_08_1k.csv",
        columns + "0,30,20220422,100,1650560500001,1," + tail.format(1),
    )
    header = (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
        "music_id,music_type,tag\n"
    )
    videos = '10,123,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,"39,11"\n'
    videos += "20,456,AD,2022-04-10,Kmovie,0.0,,720.0,1280.0,6355810746.0,9.0,\n30,789,NORMAL,,,,,,,,,1\n"
    put(folder, "KuaiRand-1K/data/video_features_basic_1k.csv", header + videos)
    put(folder, "KuaiRand-1K/data/video_features_statistic_1k.csv", "video_id,show_cnt\n10,99\n")
    put(
        folder, "KuaiRand-1K/data/user_features_1k.csv", "user_id,user_active_degree,register_days\n0,full_active,107\n"
    )
    return folder


def kuairec(folder: Path) -> Path:
    columns = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    rows = [
        "14,148,4381,6067,2020-07-05 05:27:48.378,20200705.0,1593898068.378,0.7221031811438932\n",
        "14,183,11635,6100,2020-07-05 05:27:48.377,20200705.0,,1.907377049180328\n",
        "14,184,1,6100,,,,0.1\n",
    ]
    put(folder, "KuaiRec 2.0/data/small_matrix.csv", columns + "".join(rows))
    put(folder, "KuaiRec 2.0/data/big_matrix.csv", columns + rows[0])
    put(folder, "KuaiRec 2.0/data/item_categories.csv", 'video_id,feat\n148,"[27, 9]"\n183,[1]\n')
    captions = (
        "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name,"
        "second_level_category_id,second_level_category_name,third_level_category_id,third_level_category_name\n"
        "148,UNKNOWN,精神小伙路难走,程哥你狗粮慢点撒\n第二行,[五爱街,小伙],8,颜值,673,颜值随拍,-124,UNKNOWN\n"
        "183,UNKNOWN,,[],27,高新数码,-124,UNKNOWN,-124,UNKNOWN\n"
    )
    put(folder, "KuaiRec 2.0/data/kuairec_caption_category.csv", captions)
    put(folder, "KuaiRec 2.0/data/user_features.csv", "user_id,user_active_degree\n14,full_active\n")
    return folder


def yambda(folder: Path) -> Path:
    """Writes listens of one user, flat and sequential; one item has no embedding."""
    uid, timestamp, item = [100, 100, 100, 200], [39420, 39420, 39425, 5], [8326270, 4, 9, 4]
    unsigned = {"uid": pa.array(uid, pa.uint32()), "timestamp": pa.array(timestamp, pa.uint32())}
    table = pa.table(
        unsigned
        | {
            "item_id": pa.array(item, pa.uint32()),
            "is_organic": pa.array([0, 1, 1, 1], pa.uint8()),
            "played_ratio_pct": pa.array([95, 100, 20, 50], pa.uint16()),
            "track_length_seconds": pa.array([170, 105, 185, 105], pa.uint32()),
        }
    )
    kinds = pa.array(["listen", "like", "unlike", "listen"]).dictionary_encode()
    for size, name, content in (
        ("50m", "listens", table),
        ("50m", "multi_event", table.append_column("event_type", kinds)),
        ("50m", "likes", table.select(["uid", "timestamp", "item_id", "is_organic"])),
    ):
        (folder / "flat" / size).mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(content, folder / "flat" / size / f"{name}.parquet")
    (folder / "sequential/50m").mkdir(parents=True, exist_ok=True)
    lists = {name: [table[name].to_pylist()[:3], table[name].to_pylist()[3:]] for name in table.column_names[1:]}
    sequential = pa.table({"uid": pa.array([100, 200], pa.uint32())} | lists)
    pyarrow.parquet.write_table(sequential, folder / "sequential/50m/listens.parquet")
    vectors = pa.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float64()))
    embeddings = {"item_id": pa.array([4, 8326270, 7], pa.uint32()), "embed": vectors, "normalized_embed": vectors}
    pyarrow.parquet.write_table(pa.table(embeddings), folder / "embeddings.parquet")
    mapping = {"artist_id": pa.array([1, 2, 3], pa.uint32()), "item_id": pa.array([4, 4, 8326270], pa.uint32())}
    pyarrow.parquet.write_table(pa.table(mapping), folder / "artist_item_mapping.parquet")
    return folder


def steam(folder: Path) -> Path:
    """Writes reviews and games as Python 2 wrote dictionaries."""

    def literal(row: dict) -> str:
        return (
            "{"
            + ", ".join(f"u{key!r}: {'u' if isinstance(value, str) else ''}{value!r}" for key, value in row.items())
            + "}"
        )

    review = {
        "username": "Chaos Syren",
        "hours": 0.1,
        "products": 41,
        "product_id": "725280",
        "page_order": 0,
        "date": "2017-12-17",
        "text": 'This would not be "acceptable" as an entertainment even back in the day these games came out.\nIt\'s',
        "early_access": False,
        "page": 1,
    }
    reviews = [
        review,
        review | {"product_id": "10", "date": "2017-12-16"},
        review,
        review | {"product_id": "99", "user_id": "76561198007483075", "compensation": "Product received for free"},
    ]
    games = [
        {"publisher": "Kotoshiro", "genres": ["Action", "Indie"], "app_name": "Lost Summoner Kitty", "id": "725280"}
        | {"title": "Lost Summoner Kitty", "tags": ["Action"], "price": 4.99, "developer": "Kotoshiro"},
        {
            "app_name": "Counter-Strike: \u201cX\u201d",
            "id": "10",
            "price": "Free To Play",
            "release_date": "2000-11-01",
        },
        {"url": "http://store.steampowered.com/app/", "app_name": "no id"},
    ]
    put(folder, "steam_reviews.json.gz", lines(reviews, literal))
    put(folder, "steam_games.json.gz", lines(games, literal))
    return folder


def sequences(tables) -> dict[str, list[str]]:
    """Returns the ids of each user's items, oldest first, of tables that pass validation."""
    from genrec import config
    from genrec.data import splits, validation

    checked = validation.check(tables, config.Data())
    found, ids = splits.by_user(checked.interactions), checked.catalogue.items["item_id"].to_pylist()
    return {
        user: [ids[item] for item in found.items[start:end]]
        for user, start, end in zip(
            checked.interactions.user_ids.tolist(), found.offsets[:-1], found.offsets[1:], strict=True
        )
    }


def rows(source) -> dict[str, dict]:
    """Returns the rows of items or users by id."""
    name = "item_id" if "item_id" in source.table.column_names else "user_id"
    return {row[name]: row for row in source.table.to_pylist()}
