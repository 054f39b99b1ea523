"""Tables of the store. A change here needs a migration (migrations/versions); a test compares the two."""

import sqlalchemy as sa

METADATA = sa.MetaData()
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows in columns of this type alone

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("number", NUMBER, primary_key=True),  # orders events of the same time
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),  # microseconds since 1970, UTC
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Index("events_of_user", "user_id", "time", "number"),
)

# Idempotency keys: one row for each `append` that had a key.
APPENDS = sa.Table(
    "appends",
    METADATA,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),  # of the item ids: the same key for other items is refused
)

PROFILES = sa.Table(
    "profiles",
    METADATA,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),  # JSON
)

# Changes of the catalogue, numbered from 1 in the order in which they were committed.
CHANGES = sa.Table(
    "changes",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("change", sa.Text, nullable=False),  # JSON
)
