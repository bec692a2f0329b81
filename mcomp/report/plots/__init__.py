"""The plots of a report, as plotly figures in plain JSON."""
