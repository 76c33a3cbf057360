"""Draw the pictures of docs/how-to/report.md and docs/how-to/monitoring.md: the report of a pipeline that has run for 21 weeks (long_run.py), in Chromium.

`draw_report.py [FOLDER]`: use the state in the folder if there is one. Otherwise run the 21 weeks first, which takes long.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import chromium, visit
from long_run import LongRun
from PIL import Image
from run_pages import ROOT

IMAGES = ROOT / "docs/images"
COLOURS = 256  # of a picture: it stays small
SECTIONS = ("rows", "classes", "f1", "f1-by-class", "attempts", "storage")
TOP_HEIGHT = 1290  # pixels of the phone's picture


def draw(page: Path) -> None:
    """Take the pictures of the page."""
    with chromium() as browser:
        with visit(browser, page, width=1400) as visited:
            visited.page.wait_for_selector("html[data-drawn]")
            end = visited.page.locator("#rows").bounding_box()["y"]
            clip = {"x": 100, "y": 0, "width": 1200, "height": end}
            save(visited.page.screenshot(clip=clip, full_page=True), "report_summary.png")
            for anchor in SECTIONS:
                box = visited.page.locator(f"#{anchor}").bounding_box()
                clip |= {"y": box["y"] + 2, "height": box["height"]}
                save(visited.page.screenshot(clip=clip, full_page=True), f"report_{anchor}.png")
        with visit(browser, page, width=390, scheme="dark") as visited:
            visited.page.wait_for_selector("html[data-drawn]")
            top, classes = (
                visited.page.screenshot(
                    clip={"x": 0, "y": begin, "width": 390, "height": TOP_HEIGHT}, full_page=True
                )
                for begin in (0, visited.page.locator("#classes").bounding_box()["y"])
            )
            save_side_by_side([top, classes], "report_phone.png")


def save(picture: bytes, name: str) -> None:
    save_side_by_side([picture], name)


def save_side_by_side(pictures: list[bytes], name: str) -> None:
    """Save pictures beside each other, in few colours."""
    with TemporaryDirectory(prefix="pictures-") as scratch:
        images = []
        for number, picture in enumerate(pictures):
            path = Path(scratch) / f"{number}.png"
            path.write_bytes(picture)
            images.append(Image.open(path).convert("RGB"))
        gap = 24
        size = (
            sum(image.width for image in images) + gap * (len(images) - 1),
            max(image.height for image in images),
        )
        whole = Image.new("RGB", size, "white")
        left = 0
        for image in images:
            whole.paste(image, (left, 0))
            left += image.width + gap
        whole.quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


def main(state: Path) -> None:
    run = LongRun(state)
    if not (state / "postgres").exists():
        state.mkdir(parents=True, exist_ok=True)
        run.make()
    page = state / "report.html"
    print(run.rakuten("report", "--out", str(page)))
    draw(page)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with TemporaryDirectory(prefix="long-run-") as folder:
            main(Path(folder))
