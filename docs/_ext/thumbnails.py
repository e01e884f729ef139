"""Thumbnails of the gallery show the first panel of a picture, which would be tiny as a whole."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageChops
from sphinx.application import Sphinx

__all__ = ["setup"]

SIZE = (400, 300)
WIDE = 1.5  # width of a picture by its height from which it has several panels
MARK = "# sphinx_gallery_thumbnail_number = "


def make_all(app: Sphinx) -> None:
    """Replace the thumbnails that sphinx-gallery has made."""
    gallery = Path(app.srcdir, "auto_examples")
    for thumbnail in gallery.rglob("images/thumb/sphx_glr_plot_*_thumb.png"):
        name = thumbnail.name.removeprefix("sphx_glr_").removesuffix("_thumb.png")
        script = (thumbnail.parents[2] / f"{name}.py").read_text("utf-8")
        number = int(script.partition(MARK)[2].partition("\n")[0] or 1)
        picture = thumbnail.parents[1] / f"sphx_glr_{name}_{number:03}.png"
        if picture.is_file():  # not when the examples are only read
            first_panel(Image.open(picture)).save(thumbnail)


def first_panel(picture: Image.Image) -> Image.Image:
    """Return the left panel, without the white around it, on a canvas of one size."""
    panel = picture.convert("RGB")
    width, height = panel.size
    if width > WIDE * height:
        panel = panel.crop((0, 0, height, height))
    drawn = ImageChops.difference(panel, Image.new("RGB", panel.size, "white")).getbbox()
    panel = panel.crop(drawn)
    panel.thumbnail((SIZE[0] - 16, SIZE[1] - 16))
    canvas = Image.new("RGB", SIZE, "white")
    canvas.paste(panel, ((SIZE[0] - panel.width) // 2, (SIZE[1] - panel.height) // 2))
    return canvas


def setup(app: Sphinx) -> dict[str, bool]:
    """Run after the gallery, before the pages are read."""
    app.connect("builder-inited", make_all, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
