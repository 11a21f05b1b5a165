"""The sections of an audit's page about attacks."""

from __future__ import annotations

from unblur.audit.attacks import Privacy
from unblur.audit.attacks.copies import LONG_ROW, NEAR, QUANTILES
from unblur.audit.attacks.guesses import Guesses
from unblur.audit.attacks.membership import ATTACKERS, Membership
from unblur.audit.attacks.rates import Area, Catch, Share, Unmeasured
from unblur.document.blocks import Block, Cell, Paragraph, Plot, Section, Table, interval, number
from unblur.document.plots import Axis, Dot, interval_plot, line_plot


def membership_section(told: tuple[Membership, ...]) -> Section:
    """Every attacker: areas, rates and ROC curves."""
    intro = Paragraph(
        "Can somebody who holds the synthetic set, and knows all items of a person, tell whether that person was in "
        "the training data? An area of 0.5 is guessing, 1 is certainty: it is how often a random member is ranked "
        "above a random outsider."
    )
    areas = [(entry, entry.auc) for entry in told if isinstance(entry.auc, Area)]
    if not areas:
        first = told[0].auc
        reason = first.reason if isinstance(first, Unmeasured) else ""
        return Section("Membership inference", (intro, Paragraph(f"{reason[0].upper()}{reason[1:]}.")))
    users = f"{areas[0][1].n_members:,} members and {areas[0][1].n_outsiders:,} outsiders"
    rows = tuple(
        (
            entry.attacker,
            number(auc.value),
            interval(auc.low, auc.high),
            f"{auc.ties:.2%}",
            *(_caught(catch) for catch in entry.catches),
        )
        for entry, auc in areas
    )
    columns = ("attacker", "AUC", "95 % interval", "ties", "caught at 1 %", "caught at 0.1 %")
    blocks: list[Block] = [
        intro,
        interval_plot(
            [Dot(label=entry.attacker, value=auc.value, low=auc.low, high=auc.high) for entry, auc in areas],
            axis=Axis(label="area under the ROC curve"),
            marks={"guessing, 0.5": 0.5},
            caption=f"Each attacker with its 95 % interval, on {users}.",
        ),
        Table(
            columns,
            rows,
            f"On {users}. Caught: the share of members above a threshold that so few outsiders pass.",
        ),
        _roc(areas, users),
        Table(("attacker", "its score"), tuple(ATTACKERS.items()), left=2),
    ]
    missing = dict.fromkeys(
        (column, catch.reason)
        for entry in told
        for column, catch in zip(columns[-len(entry.catches) :], entry.catches, strict=True)
        if isinstance(catch, Unmeasured)
    )
    blocks[3:3] = [Paragraph(f"{column[0].upper()}{column[1:]}: {reason}.") for column, reason in missing]
    return Section("Membership inference", tuple(blocks))


def _roc(areas: list[tuple[Membership, Area]], users: str) -> Plot:
    low = 1 / max(10, min(area.n_outsiders for _, area in areas))
    return line_plot(
        {entry.attacker: entry.roc for entry, _ in areas},
        x=Axis(
            label="outsiders taken for members (logarithmic)",
            logarithmic=True,
            percent=True,
            low=low,
            high=1.0,
        ),
        y=Axis(label="members caught (logarithmic)", logarithmic=True, percent=True, low=low, high=1.0),
        diagonal="guessing",
        caption=f"ROC curves of the attackers, on {users}.",
    )


def guesses_section(privacy: Privacy) -> Section:
    """Singling out and inference: members, outsiders, baseline."""
    rows: list[tuple[str | Cell, ...]] = []
    missing = {}
    for name, guess in privacy.guesses.items():
        if isinstance(guess, Unmeasured):
            missing[name] = guess.reason
            continue
        rows.append(
            (
                name,
                f"{guess.attack.trials:,}",
                _share(guess.attack),
                _share(guess.control) if isinstance(guess.control, Share) else "–",
                f"{guess.baseline.value:.1%}",
                _excess(guess),
            )
        )
    columns = ("attack", "guesses", "about members", "about outsiders", "baseline", "excess")
    blocks: list[Block] = [
        Paragraph(
            "Singling out: some items that just one synthetic user has together are claimed to point at just one real "
            "person. Inference: all items of a person but one are known, and that one is guessed from the most alike "
            "synthetic users. What is right about outsiders as often as about members is not a leak."
        )
    ]
    if rows:
        caption = "Share of right guesses, with 95 % intervals; the baseline guesses by popularity alone."
        blocks.append(Table(columns, tuple(rows), caption))
    blocks += [Paragraph(f"{name[0].upper()}{name[1:]}: {reason}.") for name, reason in missing.items()]
    return Section("Singling out and inference", tuple(blocks))


def copies_section(privacy: Privacy) -> Section:
    """Copies of training users, and distances."""
    found, distances = privacy.copies, privacy.distances
    rows = (
        ("the very items of a training user", _share(found.exact), _told(found.holdout_exact)),
        (f"… with {LONG_ROW} items or more", _share(found.exact_long), ""),
        (f"Jaccard similarity of {NEAR:g} or more to one", _told(found.near), _told(found.holdout_near)),
    )
    far = distances.nearest_to_holdout
    spread = tuple(
        (f"{quantile:.0%} quantile", number(value), "–" if isinstance(far, Unmeasured) else number(far[at]))
        for at, (quantile, value) in enumerate(zip(QUANTILES, distances.nearest_to_train, strict=True))
    )
    apart = distances.holdout_dissimilarity
    spread += (
        (
            "mean over all pairs",
            number(distances.dissimilarity),
            "–" if apart is None else f"{number(apart)} ¹",
        ),
    )
    blocks: list[Block] = [
        Table(("synthetic users with", "synthetic", "holdout users"), rows, "Copies of training users."),
        Paragraph(
            "Distances are secondary: a set can be far from every training user and still give members away, and two "
            "unrelated real samples are far from each other too."
        ),
        Table(
            ("Jaccard distance to the nearest", "training user", "holdout user"),
            spread,
            f"Of {distances.n_users:,} synthetic users to equally many training and holdout users."
            + ("" if apart is None else " ¹ of holdout users to training users."),
        ),
    ]
    if isinstance(distances.nearer_to_train, Share) and distances.ties is not None:
        blocks.append(
            Paragraph(
                f"Of the synthetic users that are nearer to one side, {_share(distances.nearer_to_train)} are nearer to a "
                f"training user; {distances.ties:.1%} of all are as near to both. One half is no preference."
            )
        )
    return Section("Copies and distances", tuple(blocks))


def _share(share: Share) -> str:
    return f"{share.value:.1%} ({share.low:.1%} … {share.high:.1%})"


def _told(share: Share | Unmeasured) -> str:
    return _share(share) if isinstance(share, Share) else "–"


def _caught(catch: Catch | Unmeasured) -> str:
    return "–" if isinstance(catch, Unmeasured) else f"{_share(catch.members)}"


def _excess(guess: Guesses) -> str:
    excess = guess.excess
    return "–" if isinstance(excess, Unmeasured) else f"{excess[0]:.1%} ({excess[1]:.1%} … {excess[2]:.1%})"
