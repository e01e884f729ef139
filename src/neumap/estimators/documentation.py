"""The link from scikit-learn's HTML view of an estimator to its page of the site."""

from __future__ import annotations

from importlib import metadata

__all__ = ["DocumentationLink"]


class DocumentationLink:
    """For estimators: the question mark of their HTML view leads to the installed version's site.

    The address is the ``Documentation`` of the package's metadata. Without one there is no link.
    """

    _doc_link_module = "neumap"

    @property
    def _doc_link_template(self) -> str:
        """Address of an estimator's page; scikit-learn fills in the name of the class."""
        address = _documentation()
        return f"{address}/api/generated/neumap.{{estimator_name}}.html" if address else ""


def _documentation() -> str:
    try:
        links = metadata.metadata("neumap").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # from a folder of sources
        return ""
    found = dict(link.split(", ", 1) for link in links)
    return str(found.get("Documentation", "")).rstrip("/")
