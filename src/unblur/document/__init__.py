"""Documents as values: a `Document` of sections with paragraphs, listings, tables and plots.

Each package describes its own report once as a `Document`, which is then rendered: `markdown.as_markdown` for text,
`html.as_html` for a page that loads nothing; the command line prints the same tables. Nothing here depends on a
particular report or touches a file.
"""
