"""Text cleaning, as a scikit-learn pipeline of nothing but library functions.

The cleaner is part of every registered model. Had it a class or function of this package, a colleague could load a
model only with this package installed, and an old model only with this package as it was.
"""

import html
import operator
import re
from functools import partial
from typing import Final

import pandas as pd
from sklearn.feature_extraction.text import strip_accents_unicode
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

TEXT_COLUMNS: Final = ("designation", "description")

# A tag or a comment; "<3" and "a < b" are text.
_TAG: Final = r"(?is)<(?:!--.*?--|/?[a-z][^<>]*)>"


def text_cleaner() -> Pipeline:
    """Cleans `TEXT_COLUMNS`; it needs no fit.

    Its `transform` takes a DataFrame of shape (n, any) and returns one of shape (n, 2) of `str`, never null:
    HTML unescaped and its tags removed, accents folded (NFKD, combining marks dropped), lower case. Nulls (None, NaN,
    NA) and a column that is missing altogether become ''; further columns are ignored.
    """
    steps = {
        "select": FunctionTransformer(pd.DataFrame, kw_args={"columns": list(TEXT_COLUMNS)}),
        "as_text": FunctionTransformer(operator.methodcaller("astype", "string")),
        "fill_nulls": FunctionTransformer(operator.methodcaller("fillna", "")),
        # Twice, because some sellers escaped what was escaped already: "&amp;eacute;".
        "unescape": _each(html.unescape),
        "unescape_again": _each(html.unescape),
        "strip_tags": _each(partial(re.sub, _TAG, " ")),
        "fold_accents": _each(strip_accents_unicode),
        # Last, because NFKD makes capitals: "™" becomes "TM".
        "lower": _each(operator.methodcaller("lower")),
    }
    return Pipeline(list(steps.items()))


def _each(function: object) -> FunctionTransformer:
    # methodcaller, because skops can serialise it and neither a lambda nor an unbound method.
    return FunctionTransformer(operator.methodcaller("map", function))
