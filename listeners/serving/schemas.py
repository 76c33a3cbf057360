"""What requests to the model server contain, and what its answers contain."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from listeners.training.text import unclosed_comments

MOST_PRODUCTS: Final = 1_000
_MOST_UNCLOSED_COMMENTS: Final = 10
_MOST_PROBLEMS: Final = 10  # that an answer names, of a body that is not as it should be


def _require_closed_comments(text: str) -> str:
    """Refuse a text that would keep the model busy for half a minute.

    To remove HTML comments, the model searches the rest of the text for the end of each comment. This takes quadratic time if
    many comments begin and do not end.
    """
    if unclosed_comments(text) > _MOST_UNCLOSED_COMMENTS:
        raise PydanticCustomError(
            "unclosed_comments",
            "String should have at most {most} HTML comments that do not end",
            {"most": _MOST_UNCLOSED_COMMENTS},
        )
    return text


_CLOSED: Final = AfterValidator(_require_closed_comments)


class Product(BaseModel):
    """A product whose class is asked for. Both texts may be null or missing; other fields are ignored."""

    model_config = ConfigDict(json_schema_extra={"example": {"designation": "Piscine gonflable ronde 3 m"}})

    designation: Annotated[str, Field(max_length=10_000), _CLOSED] | None = None
    description: Annotated[str, Field(max_length=100_000), _CLOSED] | None = None


class Class(BaseModel):
    """A class, and how probable it is. The probability is null if the model gives none."""

    prdtypecode: int
    category: str
    probability: float | None


class Prediction(Class):
    """The class of a product, as the model predicts it. `top` has the most probable classes, up to three."""

    top: list[Class]


class ServedBy(BaseModel):
    """The model that gave an answer. `sha256` is the digest of its files."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    version: int | None
    batch: str | None
    sha256: str


class Predictions(BaseModel):
    """One prediction for each product of the request, in its order. All are by one model."""

    model: ServedBy
    predictions: list[Prediction]


class Refusal(BaseModel):
    """Why the server gives no prediction."""

    detail: str


class Problem(BaseModel):
    """A part of a body that is not as it should be. `where` has the position in the list and the name of the field."""

    where: list[int | str]
    problem: str


class BadBody(BaseModel):
    """The first problems of a body, without its texts."""

    detail: list[Problem]


class BadBodyError(ValueError):
    """The body of a request is not one product or a list of products. `problems` says where and why, without its texts."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__()
        self.problems = problems


_ONE: Final = TypeAdapter(Product)
_MANY: Final = TypeAdapter(Annotated[list[Product], Field(min_length=1, max_length=MOST_PRODUCTS)])
_PRODUCT_SCHEMA: Final = Product.model_json_schema()
BODY: Final = {
    "requestBody": {
        "required": True,
        "description": f"one product, or a list of 1 to {MOST_PRODUCTS:,} products",
        "content": {
            "application/json": {
                "schema": {"anyOf": [_PRODUCT_SCHEMA, {"type": "array", "items": _PRODUCT_SCHEMA}]}
            }
        },
    }
}
"""The description of the body for OpenAPI."""


def parse_products(body: bytes) -> list[Product]:
    """Return the products of a request.

    Raises:
        BadBodyError: the body is not JSON, or not one product or a list of 1 to `MOST_PRODUCTS` products.
    """
    is_list = body.lstrip()[:1] == b"["
    try:
        return _MANY.validate_json(body) if is_list else [_ONE.validate_json(body)]
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise BadBodyError(
            [
                {"where": list(problem["loc"]), "problem": problem["msg"]}
                for problem in problems[:_MOST_PROBLEMS]
            ]
        ) from None
