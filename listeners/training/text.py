"""Text cleaning, as a scikit-learn pipeline of nothing but library functions.

The cleaner is part of every registered model. Had it a class or function of this package, a colleague could load a
model only with this package installed, and an old model only with this package as it was.
"""

import html
import re
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import strip_accents_unicode
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

TEXT_COLUMNS: Final = ("designation", "description")

# More digits than Python converts to an integer, at which html.unescape raises ValueError.
_ENDLESS_REFERENCE: Final = r"&#[0-9]{4301,};?"
# A tag or a comment; "<3" and "a < b" are text.
_TAG: Final = r"(?is)<(?:!--.*?--|/?[a-z][^<>]*)>"


def text_cleaner() -> Pipeline:
    """Cleans `TEXT_COLUMNS`; it needs no fit.

    Its `transform` takes a DataFrame of shape (n, any), n > 0, and returns one of shape (n, 2) of texts, never null:
    HTML unescaped and its tags removed, accents folded (NFKD, combining marks dropped). Nulls (None, NaN, NA) and a column
    that is missing altogether become ''; further columns are ignored. Lower case is left to the vectorizers, which come
    after the folding, as they must: NFKD makes capitals, "™" becomes "TM".
    """
    columns = list(TEXT_COLUMNS)
    no_texts = pd.DataFrame("", index=[0], columns=columns, dtype="str")
    steps = {
        "select": FunctionTransformer(pd.DataFrame, kw_args={"columns": columns}),
        "columns": FunctionTransformer(
            dict
        ),  # one by one: a frame of several kinds of null does not convert as a whole
        "as_text": FunctionTransformer(pd.DataFrame, kw_args={"dtype": "str"}),
        "fill_nulls": SimpleImputer(
            missing_values=np.nan, strategy="constant", fill_value="", keep_empty_features=True
        ).fit(no_texts),
        # Twice, because some sellers escaped what was escaped already: "&amp;eacute;".
        "drop_endless": _each(partial(re.sub, _ENDLESS_REFERENCE, " ")),
        "unescape": _each(html.unescape),
        "drop_endless_again": _each(partial(re.sub, _ENDLESS_REFERENCE, " ")),
        "unescape_again": _each(html.unescape),
        "strip_tags": _each(partial(re.sub, _TAG, " ")),
        "fold_accents": _each(strip_accents_unicode),
        "as_frame": FunctionTransformer(pd.DataFrame, kw_args={"columns": columns}),
    }
    return Pipeline(list(steps.items()))


def _each(function: Callable[..., str]) -> FunctionTransformer:
    # vectorize, because skops can serialise neither a lambda nor an unbound method, and a list of trusted types with
    # operator.methodcaller on it would let a model file call any method, DataFrame.eval among them
    return FunctionTransformer(np.vectorize(function, otypes=[object]))
