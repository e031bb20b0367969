"""Charts as SVG elements, drawn by pure functions that know nothing of KYB: numbers and labels in, elements out.

Colours are classes: the page that holds a chart has the style sheet, for light and dark. May import the standard library only.
"""
