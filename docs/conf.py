"""The site: `make docs` builds it with warnings as errors.

The pages are Markdown and are read in the repository as well. The reference is made from the
docstrings, the gallery from the scripts in `examples/`, which run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras reads this at import
os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import explorer_page  # noqa: E402
import gallery  # noqa: E402

import neumap  # noqa: E402

project = "neumap"
author = "The neumap developers"
copyright = "The neumap developers, BSD 3-Clause"  # Sphinx's name
version = release = neumap.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    # In `_ext`:
    "formulas",
    "outside_pages",
    "own_members",
    "thumbnails",
    "llms",
]
exclude_patterns = ["_explorer", "examples", "figures"]
templates_path = ["_templates"]

# ---- pages --------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 4  # links to headings, by GitHub's rule
myst_fence_as_directive = ["math"]  # GitHub renders ```math as well
suppress_warnings = [
    # CHANGELOG.md and the like begin below a heading of the page that includes them.
    "myst.header",
]

# ---- reference ----------------------------------------------------------------------------------

autosummary_generate = True
autosummary_generate_overwrite = True
autodoc_typehints = "none"  # numpydoc's sections say more
autodoc_member_order = "groupwise"
autodoc_inherit_docstrings = True
numpydoc_show_class_members = False  # the template lists the methods
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"

# Every reference must have a target on this site. Nothing is fetched during a build (it works
# without a network), so classes of other packages have none, nor have names that only the code
# uses.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|torch|nn|sklearn|scipy|pandas|keras|matplotlib|bokeh|anndata)\..*"),
]

# ---- gallery ------------------------------------------------------------------------------------

sphinx_gallery_conf = gallery.configuration(HERE)

# ---- look ---------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "neumap"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = True  # llms.txt points at the Markdown of the pages
html_sidebars = {"index": [], "changelog": [], "faq": [], "get_started": []}
html_theme_options = {
    "logo": {"text": "neumap"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_extra_path = explorer_page.make(HERE / "_explorer")

# ---- links, asked for by `make docs-links` in CI alone ------------------------------------------

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 4
linkcheck_ignore = [
    r"http://127\.0\.0\.1",
    # Publishers that refuse programs.
    r"https://doi\.org/.*",
]
