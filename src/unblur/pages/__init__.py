"""Reports as one self-contained HTML page: no network, plots as inline SVG, light and dark, readable on a phone.

    page("Title", [Section("One", (Paragraph("…"), Table(("a", "b"), rows), line_plot(lines, x=…, y=…)))])

A page is text; nothing here touches a file. Needs jinja2 (the extra `report`).
"""

from __future__ import annotations

from unblur.pages.audit import audit_page as audit_page
from unblur.pages.blocks import Cell as Cell
from unblur.pages.blocks import Figure as Figure
from unblur.pages.blocks import Listing as Listing
from unblur.pages.blocks import Paragraph as Paragraph
from unblur.pages.blocks import Section as Section
from unblur.pages.blocks import Table as Table
from unblur.pages.blocks import page as page
from unblur.pages.plots import Axis as Axis
from unblur.pages.plots import Dot as Dot
from unblur.pages.plots import bar_plot as bar_plot
from unblur.pages.plots import interval_plot as interval_plot
from unblur.pages.plots import line_plot as line_plot
from unblur.pages.points import Point as Point
from unblur.pages.points import cloud_plot as cloud_plot
from unblur.pages.points import named_point_plot as named_point_plot
from unblur.pages.report import report_page as report_page
from unblur.pages.trials import trials_sections as trials_sections
