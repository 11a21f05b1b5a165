"""Reports as values: a `Document` of sections with paragraphs, listings, tables and plots.

A report is described once, by whoever knows what it is about, and rendered from there: `markdown.as_markdown` for
text, `html.as_html` for a page that loads nothing; the command line prints the same tables. Nothing here knows a
report, and nothing here touches a file.
"""
