"""Evaluation: metrics of recommended lists, their doubt, the protocol that takes them, and the report."""
