"""What of the development split is measured on the test split, too."""

from collections.abc import Sequence

from ml_collections import FrozenConfigDict

from frontier.budgets import at_budget, upper_hull
from frontier.grids import CHECKED
from frontier.measure import Study
from frontier.rows import Row, point
from reoac_jax.config import config_hash

MARGIN = 0.05  # of accuracy; a development split of 1 000 knows it to 0.03


def close_to_the_best(study: Study, found: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of them that are within `MARGIN` of the best rule at their passes on the development
    split, or check answers; and their neighbours on the family's hull, between which it is read."""
    points = {
        row["policy"]: point(row)
        for row in study.rows.all
        if (row["subject"], row["split"]) == ("bundled", "dev")
    }
    plain = [points[policy] for policy in points if not policy.startswith(CHECKED)]

    def is_close(policy: str) -> bool:
        best = at_budget(plain, points[policy].passes)
        return best is None or float(best.mean()) - points[policy].accuracy <= MARGIN

    families: dict[str, list[str]] = {}
    for family, policy in found:
        families.setdefault(family, []).append(policy)
    return [
        (family, policy)
        for family, hull in families.items()
        for place, policy in enumerate(hull)
        if any(is_close(near) for near in hull[max(place - 1, 0) : place + 2])
    ]


def chosen(study: Study, subject: str, config: FrozenConfigDict) -> list[tuple[str, str]]:
    """Family and policy of what lies on a family's upper hull on the development split.

    Of the rows of that configuration: bold operators have one of their own.
    """
    families: dict[str, list[Row]] = {}
    wanted = (subject, "dev", 0, config_hash(config))
    for row in study.rows.all:
        if (row["subject"], row["split"], row["seed"], row["config_hash"]) == wanted:
            families.setdefault(row["family"], []).append(row)
    return [
        (family, found.name)
        for family, rows in families.items()
        for found in upper_hull([point(row) for row in rows])
    ]
