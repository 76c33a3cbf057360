"""Clean texts with a scikit-learn pipeline that consists only of classes and functions of other libraries.

The cleaner is part of every registered model. If the cleaner contained a class or function of this package, a model could be
loaded only where this package is installed, and an old model only with the version of this package that trained it.
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

# An HTML character reference (such as &#233;) with more than 4,300 digits. Python does not convert so many digits to an
# integer, so html.unescape would raise ValueError.
_OVERLONG_REFERENCE: Final = r"&#[0-9]{4301,};?"
# An HTML tag or comment. Texts such as "<3" and "a < b" do not match.
_TAG: Final = r"(?is)<(?:!--.*?--|/?[a-z][^<>]*)>"


def text_cleaner() -> Pipeline:
    """Return a pipeline that cleans the texts in `TEXT_COLUMNS`. It can be used without a call of `fit`.

    The pipeline's `transform` takes a DataFrame of shape (n, any), n > 0, and returns one of shape (n, 2) with texts, never
    null. The pipeline unescapes HTML, removes HTML tags and removes accents (NFKD, without combining marks). Nulls (None, NaN,
    NA) and missing columns become ''; other columns are ignored. The pipeline does not change texts to lower case: that must
    happen after NFKD, which can make capitals ("™" becomes "TM"). The vectorizers, which follow in the model, do it.
    """
    columns = list(TEXT_COLUMNS)
    no_texts = pd.DataFrame("", index=[0], columns=columns, dtype="str")
    steps = {
        "select": FunctionTransformer(pd.DataFrame, kw_args={"columns": columns}),
        # Turn the DataFrame into a dict of columns: pandas cannot convert a whole DataFrame with several kinds of null to text.
        "columns": FunctionTransformer(dict),
        "as_text": FunctionTransformer(pd.DataFrame, kw_args={"dtype": "str"}),
        "fill_nulls": SimpleImputer(
            missing_values=np.nan, strategy="constant", fill_value="", keep_empty_features=True
        ).fit(no_texts),
        # Remove overlong character references and unescape HTML, then do both again. Some sellers escaped a text twice: "é"
        # became "&eacute;" and then "&amp;eacute;".
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
    # The model is saved with skops, which can serialise np.vectorize, but neither a lambda nor an unbound method. Do not use
    # operator.methodcaller, which skops can serialise, too: a model file that may contain it can call any method, even
    # DataFrame.eval.
    return FunctionTransformer(np.vectorize(function, otypes=[object]))
