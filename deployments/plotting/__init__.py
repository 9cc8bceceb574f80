"""Plots as SVG, in one style for reports and benchmarks; drawing needs the extra `report`, importing does not."""
