import numpy as np
import pyarrow as pa
import pytest

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.input_pipeline import context
from genrec.input_pipeline.context import ABSENT, UNKNOWN, Context, Feature, RequestContext, UserFeatures, VectorFeature

COUNTRY = Feature("country", values=("DE", "FR"))
AGE = Feature("age", edges=(18.0, 30.0))
HOUR = Feature("time_of_day", edges=context.HOURS, of="time")
VECTOR, SUMMARY = VectorFeature("vector", 2, 1), VectorFeature("summary", 3, 2)
ITEM_VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
TABLE = pa.table({"user_id": ["a", "b"], "country": ["FR", None], "age": [17.5, 30.0], "vector": [[1.0, 2.0], None]})


class GivenDataset:
    def __init__(self, users, has_times=True):
        self.users, self.has_times = users, has_times
        items = {"item_id": ["i", "j"], "media_type": ["music", "podcast"], "tags": [["b", "a", "b"], []]}
        self.catalogue = Catalogue(pa.table(items), ())


def test_a_category_has_a_code_for_each_value_and_one_for_unknown_values():
    assert [COUNTRY.code(value) for value in ("DE", "FR", "XX", "", None)] == [1, 2, UNKNOWN, ABSENT, ABSENT]
    assert [COUNTRY.meaning(code) for code in range(COUNTRY.size)] == ["unknown", "DE", "FR"]


def test_a_number_falls_into_the_bucket_from_its_lower_edge_on():
    assert [AGE.code(value) for value in (3, "17.9", 18, 29.9, 30, 99)] == [1, 1, 2, 2, 3, 3]
    assert AGE.code("old") == AGE.code(float("nan")) == UNKNOWN and AGE.code(None) == ABSENT
    assert [AGE.meaning(code) for code in range(AGE.size)] == ["unknown", "below 18", "18 to 30", "30 and more"]
    assert [HOUR.code(hour) for hour in (0, 2.9, 3, 23.5)] == [1, 1, 2, 8]


def test_a_context_survives_json():
    whole = Context((COUNTRY, AGE, HOUR), (VECTOR, SUMMARY))
    assert Context.from_json(whole.as_json()) == whole and Context.from_json({}) == Context()
    assert whole.codes == 3 + 4 + 9 and whole.soft_tokens == 3


def vectors(users, feature, names, earlier, wanted=None, offsets=None):
    rows = np.array([users.row(name) for name in names])
    wanted = np.ones(len(names), bool) if wanted is None else np.array(wanted)
    return users.vectors_of(feature, rows, [np.array(items, np.int32) for items in earlier], wanted, offsets)


def test_features_and_vectors_of_users_are_read_from_their_table():
    users = UserFeatures(Context((COUNTRY, AGE, HOUR), (VECTOR, SUMMARY)), TABLE, ITEM_VECTORS)
    assert users.codes_of("a", context.NO_OVERRIDES).tolist() == [2, 1, ABSENT]
    assert users.codes_of("b", context.NO_OVERRIDES).tolist() == [ABSENT, 3, ABSENT]
    assert (users.codes_of("somebody else", context.NO_OVERRIDES) == ABSENT).all()
    found, present = vectors(users, VECTOR, ["a", "b", "somebody else", "a"], [[]] * 4, [True, True, True, False])
    assert present.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(found, [[1, 2], [0, 0], [0, 0], [0, 0]])


def test_a_summary_is_the_mean_of_the_earlier_items_plus_the_offset_of_a_profile():
    users = UserFeatures(Context((), (SUMMARY,)), TABLE, ITEM_VECTORS)
    ones = np.ones(3, np.float32)
    found, present = vectors(users, SUMMARY, ["a"] * 4, [[1, 3], [], [], [2]], None, [None, None, ones, ones])
    assert present.tolist() == [True, False, True, True]
    expected = [ITEM_VECTORS[[1, 3]].mean(axis=0), np.zeros(3), ones, ITEM_VECTORS[2] + 1]
    np.testing.assert_array_equal(found, expected)


def test_histories_are_encoded_by_sasrec_in_one_batch():
    batches = []

    def encode(items):
        batches.append([one.tolist() for one in items])
        return np.array([[one.sum(), len(one)] for one in items], np.float32)

    feature = VectorFeature("sequential", 2, 1, "0f3a")
    users = UserFeatures(Context((), (feature,)), None, encode=encode)
    found, present = vectors(users, feature, ["a"] * 4, [[1, 2], [], [3], [4]], [True, True, True, False])
    assert present.tolist() == [True, False, True, False] and batches == [[[1, 2], [3]]]
    np.testing.assert_array_equal(found, [[3, 2], [0, 0], [3, 1], [0, 0]])


def test_a_request_overrides_features_and_withholds_them():
    users = UserFeatures(Context((COUNTRY, AGE, HOUR), (VECTOR, SUMMARY)), TABLE, ITEM_VECTORS)

    def codes(**fields):
        return users.codes_of("a", RequestContext(**fields)).tolist()

    assert codes(overrides={"country": "DE", "time_of_day": "8"}) == [1, 1, 3]
    assert codes(overrides={"country": ""}) == [ABSENT, 1, ABSENT]
    assert codes(overrides={"country": "Atlantis"})[0] == UNKNOWN
    assert codes(withheld=frozenset({"age"})) == [2, ABSENT, ABSENT]
    assert codes(withheld=frozenset({"all"})) == [ABSENT, ABSENT, ABSENT]
    with pytest.raises(DataError, match="'contry'.*country, age"):
        codes(overrides={"contry": "DE"})
    with pytest.raises(DataError, match="shoe_size"):
        codes(withheld=frozenset({"shoe_size"}))


def test_features_are_learned_from_the_data():
    ages = pa.table({"user_id": [f"{n}" for n in range(100)], "age": np.arange(100), "tier": ["x"] * 97 + ["y"] * 3})
    cfg = config.Context(
        user_columns=("age", "tier"), item_columns=("media_type",), time_of_day=True, buckets=4, min_users=5
    )
    learned = context.learn(cfg, GivenDataset(ages))
    age, tier, media, hour = learned.features
    assert [age.code(value) for value in (0, 24, 25, 60, 99)] == [1, 1, 2, 3, 4]
    assert tier.values == ("x",) and tier.code("y") == UNKNOWN
    assert media == Feature("media_type", values=("music", "podcast"), of="item") and hour.of == "time"
    codes = context.item_feature_codes(learned, GivenDataset(ages).catalogue)
    assert codes.tolist() == [[ABSENT, ABSENT, 1, ABSENT], [ABSENT, ABSENT, 2, ABSENT]]


def test_a_list_is_the_set_of_its_values():
    genres = [["x", "y"], ["y", "x", "x"], ["y"], None, []] * 2
    users = pa.table({"user_id": [f"{n}" for n in range(10)], "genres": pa.array(genres, pa.list_(pa.string()))})
    cfg = config.Context(user_columns=("genres",), item_columns=("tags",), min_users=2)
    learned = context.learn(cfg, GivenDataset(users))
    assert [feature.values for feature in learned.features] == [("x|y", "y"), ("a|b",)]
    assert context.item_feature_codes(learned, GivenDataset(users).catalogue)[:, 1].tolist() == [1, ABSENT]
    codes = context.UserFeatures(learned, users).codes[:5, 0]
    assert codes.tolist() == [1, 1, 2, ABSENT, ABSENT]


def test_the_time_of_day_of_a_log_without_times_is_refused():
    with pytest.raises(config.ConfigError, match="time_of_day.*timestamp"):
        context.learn(config.Context(time_of_day=True), GivenDataset(None, has_times=False))


@pytest.mark.parametrize(
    ("settings", "users", "words"),
    [
        ({"user_columns": ("height",)}, TABLE, "height"),
        ({"user_columns": ("country",)}, None, "country.*no users file"),
        ({"item_columns": ("color",)}, TABLE, "color"),
        ({"vector": True}, TABLE.drop(["vector"]), "vector"),
        ({"summary": True}, TABLE, "context.summary.*embed_items"),
        ({"sequential": True}, TABLE, "context.sequential.*train_sasrec"),
    ],
)
def test_missing_columns_and_inputs_are_errors(settings, users, words):
    with pytest.raises(config.ConfigError, match=words):
        context.learn(config.Context(**settings), GivenDataset(users))


def test_values_that_training_did_not_see_are_told():
    context = Context((COUNTRY, AGE))
    (told,) = context.unknown({"country": "ZZ", "age": "20"})
    assert "country" in told and "'ZZ'" in told
    assert context.unknown({"country": "", "age": "20"}) == [], "left out on purpose"
