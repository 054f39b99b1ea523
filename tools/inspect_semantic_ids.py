"""Shows which items share codes: an overview of the catalogue, a prefix, or the neighbors of an item.

python tools/inspect_semantic_ids.py --workdir=/tmp/quickstart
python tools/inspect_semantic_ids.py --workdir=/tmp/quickstart --prefix=12,40
python tools/inspect_semantic_ids.py --workdir=/tmp/quickstart --item=ITEM_ID --limit=10
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.semantic_ids.inspection import Inspection

_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_PREFIX = flags.DEFINE_list("prefix", [], "First codes of the items to show, separated by commas.")
_ITEM = flags.DEFINE_string("item", None, "Id of the item whose neighbors to show.")
_LIMIT = flags.DEFINE_integer("limit", 20, "Maximum number of lines.", lower_bound=1)


@flags.validator("prefix", message="must be integers separated by commas, such as 12,40.")
def _whole_numbers(prefix: list[str]) -> bool:
    return all(code.strip().isdecimal() and len(code) < 10 for code in prefix)


@flags.multi_flags_validator(["prefix", "item"], message="Give --prefix or --item, not both.")
def _one_question(values: dict) -> bool:
    return not (values["prefix"] and values["item"])


def main() -> None:
    inspection = Inspection(_WORKDIR.value)
    if _ITEM.value is not None:
        printing.show(inspection.neighbors(_ITEM.value, _LIMIT.value))
    elif _PREFIX.value:
        printing.show(inspection.under_prefix([int(code) for code in _PREFIX.value], _LIMIT.value))
    else:
        printing.show(inspection.overview(_LIMIT.value))


if __name__ == "__main__":
    command.run(main)
