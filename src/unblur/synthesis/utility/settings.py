"""How the utility of synthetic users is measured (Lilienthal et al., IEEE Access 12, 2024, section 5)."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, field_validator

from unblur.evaluation.metrics import LIST_METRICS, parse_metric
from unblur.spec import spec

Share = Annotated[float, Field(gt=0, lt=1)]


@spec
class Departures:
    """Where the authors' code departs from their paper, or from sense. All are off under the strict protocol.

    Those inside the model are settings of the model: `diffusion.noise_without_root`,
    `diffusion.tied_hidden_layers` and `diffusion.sampling_dropout`.
    """

    reported_users_stop: bool = False
    """The users that scores are reported on also end the training of the autoencoder, and of a downstream recommender
    that stops by others' held-out items. Off: a group of its own does."""
    dislikes_are_positives: bool = False
    """The downstream recommender learns from, and is shown, every observed pair, low ratings included. Off:
    likes alone."""
    learned_dislikes_are_negatives: bool = False
    """Where `dislikes_are_positives` is on: only low ratings of the histories are positives, while of the users who
    teach likes alone count. Off: of both."""
    dislikes_are_held_out: bool = False
    """The share that is held out is one of all observed items of a user, of which the liked ones count as
    relevant. Off: one of the liked items."""
    dislikes_are_relevant: bool = False
    """Where `dislikes_are_held_out` is on: every held-out item counts as relevant, whatever its rating. Off: liked
    ones."""
    legacy_generator: bool = False
    """What is held out is drawn by `numpy.random.RandomState` (MT19937) of `hold_out_seed`, user after user: the draw
    of the authors' code. Off: by numpy's default generator (PCG64)."""
    augment_is_replace: bool = False
    """What the authors' code does for SVD: with its augment flag too, the recommender learns from synthetic users
    and histories alone. Off: ``augment`` means what it says."""
    one_sample: bool = False
    """What the authors' code does for NeuMF: the column of multi-resolution sampling comes from the full
    resolution's sample. Off: each has its own."""
    zero_threshold: bool = False
    """What the published figures of NeuMF rest on, by all that is known: a synthetic user has every item with a score above
    0, which are half of all items, whatever the synthesizer's own rule. Off: that rule."""
    ideal_counts_dislikes: bool = False
    """What the authors' code does for NeuMF: the ideal of NDCG counts held-out items of any rating. Off: liked
    ones."""
    first_epoch: bool = False
    """What the authors' code does for NeuMF: the weights of the first epoch are scored. Off: the last's."""

    def in_force(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(entry.name for entry in fields(self) if getattr(self, entry.name))


@spec
class Utility:
    """Who teaches, who stops, who reports, and what the downstream recommender learns from."""

    mode: Literal["augment", "replace"] = "augment"
    """``augment``: the downstream recommender learns from real users, synthetic ones and histories of the reported
    users; ``replace``: from synthetic users and these histories."""
    learn: Annotated[tuple[str, ...], Field(min_length=1)] = ("train", "test")
    """The parts of the data whose users the synthesizer may learn from."""
    report: str = "valid"
    """The part whose users scores are reported on."""
    observed: str | None = "observed"
    """The reading of the data in which an interaction is a rating of any height. `None`: there are likes only."""
    reported: Share = 0.1
    """Which part of the users scores are reported on, where the data have no part of that name."""
    held_out: Share = 0.2
    """Which part of each reported user's items must be found again, rounded up; the rest is the history."""
    stopping: Share = 0.1
    """Which part of the users of `learn` stops the training of the autoencoder and of a downstream recommender that
    stops early, and does nothing else."""
    searching: Share = 0.1
    """Which part of them a search is judged by; otherwise they are learned from."""
    hold_out_seed: NonNegativeInt = 123
    """What is held out, and who is in which group, comes from this seed alone: it is the same in all runs."""
    compared: Annotated[tuple[str, ...], Field(min_length=1)] = ("capped_recall@10",)
    """For which measurements the best run, the spread over runs, and paired differences are given."""
    departures: Departures = Departures()
    """Under the paper's protocol."""

    @field_validator("compared")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            metric, _ = parse_metric(name)
            if metric in LIST_METRICS:
                raise ValueError(f"{name} has no value for a user, so nothing can be paired. Name another.")
        return names
