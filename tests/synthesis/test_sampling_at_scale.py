"""Streaming to a file in bounded memory, and properties of the simple synthesizers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from unblur.data.interactions import Interactions
from unblur.errors import ArtifactError
from unblur.synthesis.autoencoder import VariationalAutoencoder
from unblur.synthesis.discretization import Discretization
from unblur.synthesis.samplers import CooccurrenceWalk, FlippedUsers, IndependentItems
from unblur.synthesis.sdrm import VAESampler
from unblur.synthesis.synthesizing import write_batches

STREAM = """
import resource, sys
import numpy as np
import torch
from unblur.synthesis import Discretization, VAESampler, VariationalAutoencoder
from unblur.synthesis.sdrm import LatentSynthesizer
from unblur.synthesis.autoencoder import MultiVAENetwork
from unblur.synthesis.synthesizing import write_batches
from unblur.data.vocabulary import Vocabulary

torch.set_num_threads(1)
n_items, settings = 20_000, VariationalAutoencoder(hidden=8, latent=4)
network = MultiVAENetwork(n_items, settings, torch.Generator().manual_seed(1)).requires_grad_(False)
counts = np.bincount([20, 30, 50]).astype(float)
spec = VAESampler(vae=settings, discretization=Discretization(rule="equal-sparsity"))
made = LatentSynthesizer(
    spec,
    Vocabulary.range(n_items),
    100,
    vae_weights=network.state_dict(),
    denoiser_weights={},
    users_with=counts,
    taken=np.ones(n_items, bool),
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pairs = write_batches(made.sample_batches(int(sys.argv[2]), rng=1), sys.argv[1])
print(pairs, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_stream_of_users_takes_bounded_memory(tmp_path: Path) -> None:
    """12,288 users × 20,000 items are 983 MB as a dense matrix; a block of 1,024 is 82."""
    file = tmp_path / "users.parquet"
    run = subprocess.run(
        [sys.executable, "-c", STREAM, str(file), "12288"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    pairs, megabytes = (int(part) for part in run.stdout.split())
    assert megabytes < 600
    table = pl.scan_parquet(file).select(pl.len(), pl.col("user").max(), pl.col("item").max()).collect()
    assert table.item(0, 0) == pairs
    assert table.item(0, 1) <= 12_287
    assert pairs == pytest.approx(12_288 * 100 / 3, rel=0.2)


def test_a_file_holds_the_sample_whole_or_not_at_all(log: Interactions, tmp_path: Path) -> None:
    synthesizer = IndependentItems().fit(log)
    sample = synthesizer.sample(100, rng=3)
    file = tmp_path / "users.parquet"
    assert write_batches(synthesizer.sample_batches(100, rng=3, batch_size=30), file) == sample.n_interactions
    loaded = Interactions.read(file, item_vocabulary=log.items)
    assert loaded.matrix.toarray().tolist() == sample.matrix[sample.user_degrees > 0].toarray().tolist()
    before = file.read_bytes()

    def broken() -> object:
        yield from synthesizer.sample_batches(40, rng=1, batch_size=20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_batches(broken(), file)  # type: ignore[arg-type]
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]
    with pytest.raises(ArtifactError, match="folder of a file to write must exist"):
        write_batches(synthesizer.sample_batches(4, rng=1), tmp_path / "no" / "users.parquet")


def test_raw_scores_keep_their_weights_in_a_file(log: Interactions, tmp_path: Path) -> None:
    vae = VariationalAutoencoder(hidden=4, latent=2, epochs=1, batch_size=10, stopping=None)
    synthesizer = VAESampler(vae=vae, discretization=Discretization(rule="raw")).fit(log, rng=1)
    write_batches(synthesizer.sample_batches(20, rng=1), tmp_path / "raw.parquet")
    loaded = Interactions.read(tmp_path / "raw.parquet", rating="weight")
    np.testing.assert_allclose(
        np.sort(loaded.matrix.data), np.sort(synthesizer.sample(20, rng=1).matrix.data), rtol=1e-6
    )


# -------------------------------------------------------------------------------- simple synthesizers


def test_independent_items_have_their_real_popularity(log: Interactions) -> None:
    sample = IndependentItems(counts="free").fit(log).sample(8000, rng=1)
    np.testing.assert_allclose(sample.item_degrees / 8000, log.item_degrees / 51, atol=0.025)
    real = IndependentItems().fit(log).sample(8000, rng=1)
    np.testing.assert_allclose(
        np.bincount(real.user_degrees, minlength=31) / 8000,
        np.bincount(log.user_degrees, minlength=31) / 51,
        atol=0.02,
    )
    assert np.corrcoef(real.item_degrees, log.item_degrees)[0, 1] > 0.95
    # Twins (items 7 and 21) are taken together by everybody, and by chance here.
    both = sample.matrix.toarray()[:, [7, 21]].mean(0).prod()
    assert (sample.matrix.toarray()[:, [7, 21]].sum(1) == 2).mean() == pytest.approx(both, abs=0.02)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_flipped_users_keep_their_other_items(log: Interactions, fraction: float) -> None:
    sample = FlippedUsers(fraction=fraction).fit(log).sample(500, rng=1)
    real = log.binarized().matrix.toarray()
    shared = sample.matrix.toarray() @ real.T
    if fraction == 0:
        rows = {row.tobytes() for row in real}
        assert all(row.tobytes() in rows for row in sample.matrix.toarray())
    overlap = (shared.max(1) / np.maximum(sample.user_degrees, 1))[sample.user_degrees > 5].mean()
    assert overlap >= 1 - fraction - 0.02
    assert set(sample.user_degrees) <= set(log.user_degrees)
    assert sample.user_degrees.mean() == pytest.approx(log.user_degrees.mean(), rel=0.1)
    assert "near copies" in FlippedUsers().fit(log).notes[0]


def test_the_walk_goes_to_items_that_share_a_user(log: Interactions) -> None:
    synthesizer = CooccurrenceWalk(restart=0.0).fit(log)
    x = log.binarized().matrix.toarray()
    pairs = x.T @ x
    np.fill_diagonal(pairs, 0)
    assert np.array_equal(synthesizer.beside.toarray(), pairs)
    last = np.repeat(np.arange(30), 2000)
    next_items = synthesizer._next(last, np.random.default_rng(0))
    for item in np.flatnonzero(pairs.sum(1)):
        shares = np.bincount(next_items[last == item], minlength=31) / 2000
        np.testing.assert_allclose(shares, pairs[item] / pairs[item].sum(), atol=0.05)
    sample = synthesizer.sample(2000, rng=1)
    np.testing.assert_allclose(
        np.bincount(sample.user_degrees, minlength=31) / 2000,
        np.bincount(log.user_degrees, minlength=31) / 51,
        atol=0.05,
    )


def test_weights_are_kept_even_if_the_first_users_are_empty(tmp_path: Path) -> None:
    nobody = np.zeros((2, 3), dtype=np.float32)
    weighted = np.array([[0, 0.25, 0], [3.5, 0, 1]], dtype=np.float32)
    parts = [Interactions.from_matrix(part) for part in (nobody, weighted, nobody)]
    assert write_batches(parts, tmp_path / "raw.parquet") == 3
    loaded = Interactions.read(tmp_path / "raw.parquet", rating="weight")
    assert sorted(loaded.matrix.data.tolist()) == [0.25, 1.0, 3.5]
    assert write_batches([parts[0]], tmp_path / "nothing.parquet") == 0
    assert pl.read_parquet(tmp_path / "nothing.parquet").columns == ["user", "item"]


def test_users_with_nearly_all_items_are_flipped_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing with rejection and drawing without replacement have the same probabilities."""
    dense = np.zeros((40, 30), dtype=np.float32)
    dense[:, :6] = 1
    dense[0] = 1
    dense[np.arange(1, 40), 6 + np.arange(39) % 24] = 1
    synthesizer = FlippedUsers(fraction=0.5).fit(Interactions.from_matrix(dense))
    rows = {}
    for rounds in (0, 1_000_000):
        monkeypatch.setattr("unblur.synthesis.samplers._ROUNDS", rounds)
        sample = synthesizer.sample(6000, rng=rounds)
        assert set(sample.user_degrees) == {7, 30}
        rows[rounds] = sample.item_degrees / 6000
    np.testing.assert_allclose(rows[0], rows[1_000_000], atol=0.03)
