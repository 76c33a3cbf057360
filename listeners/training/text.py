"""Clean texts with a scikit-learn pipeline that consists only of library functions.

The cleaner is part of every registered model. If it contained a class or function of this package, a colleague could load a
model only with this package installed, and an old model only with the package version of that time.
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

# A character reference with more digits than Python converts to an integer: html.unescape raises ValueError for it.
_OVERLONG_REFERENCE: Final = r"&#[0-9]{4301,};?"
# An HTML tag or comment. "<3" and "a < b" are text, and do not match.
_TAG: Final = r"(?is)<(?:!--.*?--|/?[a-z][^<>]*)>"


def text_cleaner() -> Pipeline:
    """Return a pipeline that cleans `TEXT_COLUMNS`; the pipeline needs no fit.

    Its `transform` takes a DataFrame of shape (n, any), n > 0, and returns a DataFrame of shape (n, 2) with texts, never null.
    It unescapes HTML, removes HTML tags and folds accents (NFKD, without combining marks). Nulls (None, NaN, NA) and missing
    columns become ''; other columns are ignored. The vectorizers change texts to lower case. They must do so after the accents
    are folded, because NFKD makes capitals: "™" becomes "TM".
    """
    columns = list(TEXT_COLUMNS)
    no_texts = pd.DataFrame("", index=[0], columns=columns, dtype="str")
    steps = {
        "select": FunctionTransformer(pd.DataFrame, kw_args={"columns": columns}),
        # Convert each column alone: pandas does not convert a whole frame with several kinds of null.
        "columns": FunctionTransformer(dict),
        "as_text": FunctionTransformer(pd.DataFrame, kw_args={"dtype": "str"}),
        "fill_nulls": SimpleImputer(
            missing_values=np.nan, strategy="constant", fill_value="", keep_empty_features=True
        ).fit(no_texts),
        # Unescape twice: some sellers escaped text that was already escaped, such as "&amp;eacute;".
        "drop_endless": _for_each_text(partial(re.sub, _OVERLONG_REFERENCE, " ")),
        "unescape": _for_each_text(html.unescape),
        "drop_endless_again": _for_each_text(partial(re.sub, _OVERLONG_REFERENCE, " ")),
        "unescape_again": _for_each_text(html.unescape),
        "strip_tags": _for_each_text(partial(re.sub, _TAG, " ")),
        "fold_accents": _for_each_text(strip_accents_unicode),
        "as_frame": FunctionTransformer(pd.DataFrame, kw_args={"columns": columns}),
    }
    return Pipeline(list(steps.items()))


def _for_each_text(function: Callable[..., str]) -> FunctionTransformer:
    # np.vectorize is needed because skops can serialise neither a lambda nor an unbound method. operator.methodcaller is no
    # alternative: as a trusted type, it would let a model file call any method, including DataFrame.eval.
    return FunctionTransformer(np.vectorize(function, otypes=[object]))
