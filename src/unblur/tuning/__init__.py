"""Hyper-parameter search: try points of a search space, judge each, choose the best.

This package knows points and values only. What is fitted, to which data, and how it is judged is up to a
`unblur.tuning.engine.SettingJudge`; the search of a recipe is `unblur.experiment.searching`.
"""
