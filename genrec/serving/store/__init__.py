"""The database of a server: events and profiles of users, and changes of the catalogue; SQLite or PostgreSQL."""
