"""Writes to a store as a process of its own: python store_writer.py URL events|changes NAME COUNT.

Prints each number as soon as the store has acknowledged it.
"""

import sys

from genrec.serving.store.store import Event, Store


def main(url: str, kind: str, name: str, count: str) -> None:
    store = Store.open(url)
    for number in range(int(count)):
        if kind == "events":
            store.append(name, [Event(f"{name} {number}", number)])
        else:
            store.add_change(f"{name} {number}")
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
