"""From a log to lists, as a marimo notebook: `marimo edit docs/how-to/from_a_log_to_lists.py`."""

import marimo

app = marimo.App(app_title="unblur: from a log to lists")


@app.cell
def _():
    import tempfile
    from pathlib import Path

    import marimo as mo
    import polars as pl

    from unblur.data.catalogue import demo_interactions

    folder = Path(tempfile.mkdtemp())
    log_file, day_file = folder / "log.csv", folder / "new-day.csv"
    events = demo_interactions(300, 120, rng=0).to_frame().sort("timestamp")
    events = events.with_columns(rating=3 + pl.int_range(pl.len()) % 3).drop("weight")
    events[:-200].write_csv(log_file)
    events[-200:].write_csv(day_file)
    films = events["item"].unique().sort()
    shop = pl.DataFrame({"item": films, "title": "Film " + films, "stock": range(len(films))})
    shop = shop.with_columns(pl.col("stock") % 7)
    mo.md(
        """
        # From a log to lists

        A shop's log with times and ratings, a look at it, a comparison, a model, lists for new users with titles and a filter,
        a new day, and a user who is forgotten. The log is generated; yours takes its place.
        """
    )
    return day_file, films, log_file, mo, pl, shop


@app.cell
def _(log_file, mo):
    from unblur.data.description import describe

    description = describe(log_file)
    mo.md("\n".join(f"- {name}: {text}" for name, text in description.rows()))
    return (description,)


@app.cell
def _(mo):
    least = mo.ui.slider(3, 5, value=4, label="the lowest rating that is a like")
    least
    return (least,)


@app.cell
def _(least, log_file, pl):
    from unblur import EASE, Interactions, Popularity
    from unblur.data.splits import Time
    from unblur.evaluation.protocol import RankingProtocol

    log = Interactions.read(log_file, min_rating=least.value)
    split = Time(fraction=0.2).apply(log)
    protocol = RankingProtocol(metrics=("recall", "ndcg"), cutoffs=(20,))
    evaluations = {
        spec.kind: protocol.evaluate(spec.fit(split.train), split, rng=0)
        for spec in (Popularity(), EASE(ridge=10))
    }
    pl.DataFrame(
        [
            {"model": kind, **{entry.name: entry.value for entry in evaluation.measurements}}
            for kind, evaluation in evaluations.items()
        ]
    )
    return EASE, Interactions, evaluations, log


@app.cell
def _(EASE, log, shop):
    model = EASE(ridge=10).fit(log).with_side(shop)
    return (model,)


@app.cell
def _(Interactions, films, model):
    from unblur.ranking import Selection

    histories = Interactions.from_pairs(
        ["zoe", "zoe", "yan", "yan"], [films[3], films[5], films[8], "not sold here"]
    )
    in_stock = Selection(where="stock > 0")
    lists = model.recommend(histories, k=5, unknown_items="ignore", selection=in_stock)
    lists.to_frame()
    return histories, in_stock, lists


@app.cell
def _(Interactions, day_file, histories, in_stock, least, log, mo, model):
    from unblur import Change

    new_day = Interactions.read(day_file, min_rating=least.value)
    # A user may be forgotten or have new events, not both.
    forgotten = next(user for user in log.users.to_list() if user not in set(new_day.users.to_list()))
    change = Change.of(log, add=new_day, forget=[forgotten])
    today = model.updated(change)
    mo.vstack(
        [
            mo.md(
                f"{new_day.n_interactions} new interactions, {forgotten} forgotten, and the lists of today:"
            ),
            today.recommend(histories, k=5, unknown_items="ignore", selection=in_stock).to_frame(),
        ]
    )
    return change, forgotten, today


if __name__ == "__main__":
    app.run()
