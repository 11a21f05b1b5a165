"""The site: `make docs` builds it from the Markdown here, the docstrings, the commands and the recipes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated

import unblur

project = "unblur"
author = "The unblur authors"
copyright = author
version = release = unblur.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["**/results.toml"]

# Links like `page.md#a-heading` are checked as links between pages are: a wrong one is a warning, and so an error.
myst_heading_anchors = 4

# Docstrings name things in single backticks; what can be found becomes a link.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries = False

html_theme = "furo"
html_title = f"unblur {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def setup(app):
    """Fill in what is generated, and put the schema of recipes next to its page."""
    generated.connect(app)
