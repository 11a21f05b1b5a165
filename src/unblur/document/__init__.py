"""Reports as one self-contained HTML page: no network, plots as inline SVG, light and dark, readable on a phone.

    page("Title", [Section("One", (Paragraph("…"), Table(("a", "b"), rows), line_plot(lines, x=…, y=…)))])

A page is text; nothing here touches a file. Needs jinja2 (the extra `report`).
"""

from __future__ import annotations

from unblur.document.blocks import Cell as Cell
from unblur.document.blocks import Figure as Figure
from unblur.document.blocks import Listing as Listing
from unblur.document.blocks import Paragraph as Paragraph
from unblur.document.blocks import Section as Section
from unblur.document.blocks import Table as Table
from unblur.document.blocks import page as page
from unblur.document.plots import Axis as Axis
from unblur.document.plots import Dot as Dot
from unblur.document.plots import bar_plot as bar_plot
from unblur.document.plots import interval_plot as interval_plot
from unblur.document.plots import line_plot as line_plot
from unblur.document.points import Point as Point
from unblur.document.points import cloud_plot as cloud_plot
from unblur.document.points import named_point_plot as named_point_plot
