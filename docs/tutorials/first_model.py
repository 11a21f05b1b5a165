"""A first model, as a marimo notebook: `marimo edit docs/tutorials/first_model.py`."""

import marimo

app = marimo.App(app_title="unblur: a first model")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # A first model

        Interactions, a split, two models and a fair comparison of them. The data are generated, so nothing is
        downloaded: 3,000 people and the films that they watched.
        """
    )
    return (mo,)


@app.cell
def _(mo):
    from unblur.data.catalogue.copies import load

    interactions = load("demo")["all"]
    mo.md(
        f"{interactions.n_users:,} users, {interactions.n_items:,} items, "
        f"{interactions.n_interactions:,} interactions"
    )
    return (interactions,)


@app.cell
def _(interactions, mo):
    from unblur.data.splits import Random

    split = Random(fraction=0.2).apply(interactions, rng=0)
    mo.md(f"A fifth of each user's films is held out: {split.held_out.n_interactions:,} interactions.")
    return (split,)


@app.cell
def _(mo):
    duration = mo.ui.slider(0.2, 3.0, step=0.2, value=1.0, label="duration of sharpening")
    duration
    return (duration,)


@app.cell
def _(duration, split):
    from unblur import BSPM, Flow, LowPass, Popularity

    models = {
        "popularity": Popularity().fit(split.train),
        "bspm": BSPM(low_pass=LowPass(rank=64), sharpen=Flow(duration=duration.value)).fit(
            split.train, rng=0
        ),
    }
    return (models,)


@app.cell
def _(models, split):
    import polars as pl

    from unblur.evaluation.protocol import RankingProtocol

    protocol = RankingProtocol(metrics=("recall", "ndcg"), cutoffs=(20,))
    evaluations = {name: protocol.evaluate(model, split, rng=0) for name, model in models.items()}
    table = pl.concat(
        evaluation.to_frame().select(pl.lit(name).alias("model"), pl.all())
        for name, evaluation in evaluations.items()
    )
    table
    return evaluations, table


@app.cell
def _(models, split):
    person = split.train.users.labels[12]
    shown = models["bspm"].recommend(split.train.select_users([person]), k=5)
    shown.to_frame()
    return person, shown


@app.cell
def _(mo, models, shown):
    film = shown.labels()[0]
    mo.vstack([mo.md(f"Films like {film}:"), models["bspm"].similar_items(film, k=5).to_frame()])
    return (film,)


if __name__ == "__main__":
    app.run()
