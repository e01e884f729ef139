"""Read a folder of images: one row per file, the names of the files as ids.

Pillow reads them. The folder that holds a file is its label, as in torchvision's ``ImageFolder``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.table import Selection, Table

__all__ = ["IMAGES", "LABEL", "has_images", "read_images"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LABEL = "folder"
GREY = ("1", "L")


def has_images(folder: Path) -> bool:
    """Whether a folder, or one inside, holds images."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGES and f.is_file())


def read_images(folder: Path, selection: Selection) -> Table:
    """Read all images below a folder, in the order of their names.

    Parameters
    ----------
    folder : Path
        Files of other kinds in it are not read.
    selection : Selection
        ``image_size`` to which the images are resized; ``label="folder"`` labels each image with
        the name of its folder.

    Returns
    -------
    Table
        Bytes, flat: height, width and, unless all images are grey, three colours.

    Raises
    ------
    CommandError
        If there are no images, one is damaged, or they have several sizes and none is asked for.
    """
    files = _files(folder)
    if not files:
        raise CommandError(
            f"{folder}: the file name must end in that of a table, or be a folder of images "
            f"({', '.join(IMAGES)}) or of .npy, Parquet or Arrow files of one kind, got a folder "
            "without any. Check the path."
        )
    if selection.label not in (None, LABEL):
        raise CommandError(
            f"{folder}: the label of an image must be its folder, got the column "
            f"{selection.label!r}. Write --label-column {LABEL}."
        )
    images = [_image(file, selection.image_size) for file in files]
    is_coloured = any(image.mode not in GREY for image in images)
    rows = np.stack([_row(image, is_coloured) for image in _of_one_size(images, files)])
    labels = np.array([file.parent.name for file in files]) if selection.label else None
    names = np.array([file.relative_to(folder).as_posix() for file in files])
    return Table(rows, labels=labels, ids=names, label_name=LABEL, id_name="file")


def _image(file: Path, size: tuple[int, int] | None) -> Any:
    module = require("PIL.Image", extra="images")
    try:
        with module.open(file) as opened:
            image = opened.convert("L" if opened.mode in GREY else "RGB")
    except (OSError, ValueError, SyntaxError, module.DecompressionBombError) as error:
        raise CommandError(
            f"{file}: not a readable image ({error}). Remove it, or write it again."
        ) from error
    return image if size is None else image.resize(size)


def _of_one_size(images: list[Any], files: list[Path]) -> list[Any]:
    for image, file in zip(images, files, strict=True):
        if image.size != images[0].size:
            width, height = images[0].size
            raise CommandError(
                f"{file}: images must have one size, {width}x{height} as the first, got "
                f"{image.size[0]}x{image.size[1]}. Resize all, for example with --image-size "
                f"{width}x{height}."
            )
    return images


def _row(image: Any, is_coloured: bool) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB" if is_coloured else "L")).reshape(-1)
