"""Evaluation: metrics of recommended lists, their uncertainty, the protocol of measurement, and the report."""
