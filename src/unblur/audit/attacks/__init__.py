"""Attacks on a synthetic set: what it gives away about the people it was made from.

Every attack stands beside a naive baseline and a control group of users who were not in training. Distances are
secondary: far from train is not the same as telling nothing about it.
"""
