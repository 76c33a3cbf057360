"""Small JPEGs for synthetic products: a shape and a tint for each class."""

from collections.abc import Iterator
from colorsys import hsv_to_rgb
from contextlib import contextmanager
from pathlib import Path

from shared.errors import PipelineError

_SIDE = 48
_JPEG_QUALITY = 70


def require_pillow() -> None:
    """Raise `PipelineError` if images cannot be drawn: Pillow is an optional dependency."""
    with _pillow_required():
        import PIL.ImageDraw  # noqa: F401, PLC0415


def draw_image(path: Path, *, class_position: int, class_count: int, productid: int) -> None:
    """Write a 48 x 48 JPEG whose colour and shape tell the class, and whose placement varies with the product."""
    from PIL import Image, ImageDraw  # noqa: PLC0415

    hue = class_position / class_count
    image = Image.new("RGB", (_SIDE, _SIDE), _rgb(hue, 0.2, 0.97))
    draw = ImageDraw.Draw(image)
    left, top = 4 + productid % 7, 4 + productid // 7 % 7
    box = (left, top, left + 30, top + 30)
    fill = _rgb(hue, 0.75, 0.75)
    shape = class_position % 3
    if shape == 0:
        draw.ellipse(box, fill=fill)
    elif shape == 1:
        draw.rectangle(box, fill=fill)
    else:
        draw.polygon([(left + 15, top), (left + 30, top + 30), (left, top + 30)], fill=fill)
    image.save(path, "JPEG", quality=_JPEG_QUALITY)


@contextmanager
def _pillow_required() -> Iterator[None]:
    try:
        yield
    except ImportError as exc:
        raise PipelineError(
            "Pillow, which draws the product images, is not installed",
            remedy="install the extra 'generate' (pip install 'rakuten-pipeline[generate]'), or ask for no images",
        ) from exc


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
