"""Clean texts with a scikit-learn pipeline that consists only of classes and functions of other libraries.

The cleaner is part of every registered model. If the cleaner contained a class or function of this package, a model could be
loaded only where this package is installed. An old model would even need the version of this package that trained it.
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

    The pipeline's `transform` takes a DataFrame of shape (n, any), n > 0, and returns a DataFrame of shape (n, 2) with texts,
    never null. Nulls (None, NaN, NA) and missing columns become ''. Other columns are ignored. The pipeline unescapes HTML,
    removes HTML tags and removes accents (NFKD, without combining marks).

    The pipeline does not convert texts to lower case. The vectorizers, which follow in the model, do this. It must happen after
    NFKD, because NFKD can make capitals ("™" becomes "TM").
    """
    columns = list(TEXT_COLUMNS)
    no_texts = pd.DataFrame("", index=[0], columns=columns, dtype="str")
    steps = {
        "select": FunctionTransformer(pd.DataFrame, kw_args={"columns": columns}),
        # Turn the DataFrame into a dict of columns, because pandas can convert the columns of a dict to text, but raises an
        # error for a DataFrame that has a column of type object.
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


def unclosed_comments(text: str) -> int:
    """Return how many HTML comments begin in a text and do not end, as the text cleaner sees it.

    The cleaner searches the rest of the text for the end of each such comment, so its time is this number times the length.
    """
    if "<!--" not in text and "&" not in text:
        return 0
    for _ in range(2):
        text = html.unescape(re.sub(_OVERLONG_REFERENCE, " ", text))
    return text.rpartition("-->")[2].count("<!--")


def _for_each_text(function: Callable[..., str]) -> FunctionTransformer:
    # The model is saved with skops, which can serialise np.vectorize, but neither a lambda nor an unbound method. skops can
    # serialise operator.methodcaller, too, but do not use it. SKOPS_TRUSTED_TYPES would have to contain operator.methodcaller,
    # and then a manipulated model file could call any method, even DataFrame.eval.
    return FunctionTransformer(np.vectorize(function, otypes=[object]))
