"""Run by Alembic before migrations: they are applied within the transaction of the connection that it was given."""

from alembic import context

from genrec.serving.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
