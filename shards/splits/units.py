"""What stays together: the components of a graph of links."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

Thing = TypeVar("Thing", bound=Hashable)


def joined(links: Iterable[tuple[Thing, Thing]]) -> dict[Thing, Thing]:
    """For each thing that is linked the first one, in the order of the links, of all that it is linked to."""
    parent: dict[Thing, Thing] = {}
    number: dict[Thing, int] = {}

    def find(one: Thing) -> Thing:
        number.setdefault(one, len(number))
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for one, two in links:
        first, other = sorted((find(one), find(two)), key=number.__getitem__)
        parent[other] = first
    return {one: find(one) for one in list(parent)}
