"""The 27 product type codes of the Rakuten France challenge.

The challenge publishes only the codes. The names are our own choice after a look at the products. `training_rows` says how
many of the challenge's 84,916 training rows have the code.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Category:
    """A product type: its name, and how many training rows of the Rakuten data challenge have this type."""

    name: str
    training_rows: int


CATEGORIES: Final[dict[int, Category]] = {
    10: Category("Used books", 3116),
    40: Category("Imported video games", 2508),
    50: Category("Video game accessories", 1681),
    60: Category("Video game consoles", 832),
    1140: Category("Figurines and merchandise", 2671),
    1160: Category("Trading cards", 3953),
    1180: Category("Wargames and miniatures", 764),
    1280: Category("Toys for children", 4870),
    1281: Category("Board games", 2070),
    1300: Category("Scale models and drones", 5045),
    1301: Category("Baby clothes and socks", 807),
    1302: Category("Outdoor games", 2491),
    1320: Category("Baby care", 3241),
    1560: Category("Indoor furniture", 5073),
    1920: Category("Household linen", 4303),
    1940: Category("Food and drinks", 803),
    2060: Category("Home decoration", 4993),
    2220: Category("Pet supplies", 824),
    2280: Category("Magazines", 4760),
    2403: Category("Book series and comics", 4774),
    2462: Category("Used video games", 1421),
    2522: Category("Stationery", 4989),
    2582: Category("Garden furniture", 2589),
    2583: Category("Pools and spas", 10209),
    2585: Category("Garden tools", 2496),
    2705: Category("New books", 2761),
    2905: Category("Downloadable PC games", 872),
}


def category_name(code: int) -> str:
    """Return the name of a product type code, or 'unknown' if the code is not in `CATEGORIES`."""
    return CATEGORIES[code].name if code in CATEGORIES else "unknown"
