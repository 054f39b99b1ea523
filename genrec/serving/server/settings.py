"""Settings of the server; each is a flag of tools/serve.py, and an environment variable such as GENREC_PORT."""

import dataclasses

from genrec import settings_check
from genrec.settings import setting


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """Settings of the server. Raises ConfigError for invalid values."""

    host: str = setting("127.0.0.1", "Address to listen at; 0.0.0.0 for all of the machine.", text="an address")
    port: int = setting(8080, "Port to listen at; 0 takes a free one, which the log names.", at_least=0, at_most=65535)
    store: str = setting(
        "",
        "URL of the database of events, profiles and changes of the catalogue: sqlite:///PATH or "
        "postgresql+psycopg://USER@HOST/NAME; empty is SQLite in a file beside the bundle.",
        text="a URL",
    )
    deadline_ms: int = setting(
        1000, "Deadline of a request that gives none, in milliseconds.", at_least=1, at_most=600_000
    )
    max_queue: int = setting(512, "Most requests that wait for the device; further ones are refused.", at_least=1)
    search_threads: int = setting(
        0, "Searches at a time; 0 is one for each core of a CPU, four at most, and one on an accelerator.", at_least=0
    )
    threads: int = setting(8, "Threads that read and write the store.", at_least=1, at_most=1000)
    history_events: int = setting(500, "Most events of a user that are read from the store, the latest.", at_least=1)
    poll_seconds: float = setting(
        2.0, "Interval at which changes of the catalogue by other servers are looked for, in seconds.", above=0
    )
    max_body: int = setting(1 << 20, "Largest body of a request, in bytes.", at_least=1)
    rate: float = setting(
        0.0, "Requests per second of a client (a token, or else an address); 0 is unlimited.", at_least=0
    )
    client_seconds: float = setting(
        10.0, "Time in which a client sends a request, and reads an answer, in seconds.", above=0
    )
    drain_seconds: float = setting(
        30.0, "Longest time in which requests under way are answered after SIGTERM, in seconds.", above=0
    )
    cors_origin: str = setting(
        "", "Origins whose pages may call the server, separated by commas; empty for none.", text="origins"
    )
    user_list: bool = setting(True, "Whether GET /v1/users lists the users who have events, for the page.")

    def __post_init__(self) -> None:
        settings_check.check(self)
