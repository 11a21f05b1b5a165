"""Choosing hyper-parameters: points of a search space, tried and judged, the best of them chosen.

It knows points and values only. What is fitted, to which data, and how it is judged is the judge's
(`unblur.tuning.engine.SettingJudge`); the search of a recipe is `unblur.experiment.searching`.
"""
