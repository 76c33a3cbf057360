"""Titles of products that would become markup, links or other signs if a page did not escape them, or that would break a table."""

HOSTILE_TITLES = [
    "<script>alert(1)</script>",
    "a | b\n| --- |",
    "a\ttab, a \\| pipe\r\n\r\n## and a heading",
    "[click](javascript:alert(1)) ![x](https://example.org/x.png) [x][y]",
    "**bold** `code` ``` # heading ~~gone~~ _a_ snake_case_word $x$ $& $1",
    '"><img src=x onerror=alert(1)> <a href="https://example.org">x</a>',
    "&amp; &lt; &#64; C&A",
    r"back\slash \\ \* \< \$ \@ \`",
    "https://example.org/a.html http://example.org ftp://example.org dict://a.b",
    "WWW.example.org www.example.org.",
    "seller@example.org mailto:seller@example.org @seller",
    "wait... :smile: ¨D ¨T ¨E64E - + 1. {x} = !",
    "lorem " * 42,
]
