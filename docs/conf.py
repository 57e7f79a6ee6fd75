"""Sphinx: Markdown by MyST, the Furo theme. Built by `./dev docs`."""

project = "Ottla"
author = "the Ottla authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Ottla"
myst_heading_anchors = 3
exclude_patterns = ["_build"]
