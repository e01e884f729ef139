"""The HTML view of an estimator and its link to the site."""

from __future__ import annotations

from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from neumap import UMAP, AlignedUMAP, ParametricUMAP

ROOT = Path(__file__).parents[2]


def made_known(monkeypatch: pytest.MonkeyPatch, *links: str) -> None:
    """Let the package's metadata have these links, as a built package with project.urls has."""
    message = Message()
    for link in links:
        message["Project-URL"] = link
    monkeypatch.setattr(metadata, "metadata", lambda name: {"neumap": message}[name])


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP, AlignedUMAP])
def test_the_html_view_leads_to_the_page_of_the_class(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_known(
        monkeypatch, "Source, https://a.example/neumap", "Documentation, https://b.example/docs/"
    )
    page = f"https://b.example/docs/api/generated/neumap.{kind.__name__}.html"
    assert f'href="{page}"' in kind()._repr_html_()
    # The site has that page: the reference lists the class of the module neumap.
    listed = (ROOT / "docs" / "api" / "estimators.rst").read_text("utf-8")
    assert f"   {kind.__name__}\n" in listed


@pytest.mark.parametrize("links", [(), ("Source, https://a.example/neumap",)])
def test_without_an_address_there_is_no_link(
    links: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_known(monkeypatch, *links)
    assert "api/generated" not in UMAP()._repr_html_()
    assert "Documentation for" not in UMAP()._repr_html_()


def test_a_folder_of_sources_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert "Documentation for" not in ParametricUMAP()._repr_html_()


def test_classes_of_users_do_not_lead_to_our_site(monkeypatch: pytest.MonkeyPatch) -> None:
    made_known(monkeypatch, "Documentation, https://b.example")

    class Own(UMAP):
        pass

    assert "b.example" not in Own()._repr_html_()
