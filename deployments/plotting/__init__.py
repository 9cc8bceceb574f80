"""Plots as SVG, in one style for reports and benchmarks. Needs the extra `report`; importing this does not."""
