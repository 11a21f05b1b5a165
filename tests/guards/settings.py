"""Settings with which each kind is fitted quickly to small generated data; plain values, so that any version reads them."""

from collections.abc import Mapping
from typing import Any

_STOPPING = {"every": 1, "patience": 2, "metric": "recall@10"}
_TRAINED: Mapping[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "denoiser": {"dims": [8]},
    "schedule": {"steps": 3, "scale": 0.1},
    "stopping": _STOPPING,
}
_LATENT: Mapping[str, Any] = {
    **_TRAINED,
    "autoencoder": {"encoder_dims": [8]},
    "clusters": {"count": 2, "embedding_size": 4},
}
_IN_TIME = {"time_weights": {"oldest": 0.2, "newest": 1.0}}
_LAST = {"stopping": {**_STOPPING, "hold_out": "last"}}

MODELS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "als": {
        "default": {"rank": 6},
        "exact": {"rank": 4, "exact": True, "iterations": 3, "alpha": 4.0, "ridge": 2.0},
    },
    "blend": {
        "default": {
            "parts": {
                "spectral": {"kind": "low-pass", "rank": 6},
                "users": {"kind": "user-knn", "neighbours": "all", "weighting": "degree", "power": 2.0},
                "items": {"kind": "ease"},
            },
            "weights": {"users": 0.5, "items": 0.2},
        },
    },
    "bspm": {
        "small": {"low_pass": {"rank": 8}},
        "late": {"low_pass": {"rank": 8}, "merge": "late", "output": "mean"},
        "blur": {"low_pass": None, "sharpen": None},
        "no-low-pass": {"low_pass": None, "sharpen": {"solver": "rk4", "duration": 2.5, "steps": 2}},
        "normalized": {"low_pass": {"rank": 5, "weight": 0.2}, "history": "normalized"},
        "steps": {
            "blur": {"steps": 2},
            "low_pass": {"rank": 6, "flow": {"solver": "rk4"}},
            "sharpen": {"steps": 3},
        },
    },
    "chebycf": {
        "default": {"rank": 6, "degree": 5},
        "clean": {"rank": 8, "sampling": "gauss", "flatness": 10.0, "exponent": 0.0, "degree": 3},
    },
    "low-pass": {
        "default": {"rank": 6, "bands": [1.2, 0.8], "degrees": {"user": 0.4, "item": 0.4, "score": -0.15}},
    },
    "diffrec": {
        "small": _TRAINED,
        "in-time": {**_TRAINED, **_IN_TIME, **_LAST},
        "eps": {
            **_TRAINED,
            "stopping": None,
            "objective": {"prediction": "eps", "reweight": False, "timestep_sampler": "uniform"},
            "denoiser": {"dims": [8, 6], "layout": "straight", "normalize": True, "activation": "relu"},
        },
        "sampled": {
            **_TRAINED,
            "schedule": {"name": "cosine", "steps": 6},
            "sampling": {"start_steps": 4, "noise": False, "inference_steps": 3},
            "optimizer": {"name": "sgd", "learning_rate": 0.01, "clip_norm": 1.0},
        },
        "linear-var": {**_TRAINED, "schedule": {"name": "linear-var", "steps": 4, "fixed_first": False}},
        "binomial": {**_TRAINED, "schedule": {"name": "binomial", "steps": 4}, "precision": "bfloat16"},
    },
    "l-diffrec": {
        "small": _LATENT,
        "in-time": {**_LATENT, **_IN_TIME, **_LAST},
        "one": {
            **_LATENT,
            "clusters": {"count": 1},
            "autoencoder": {"encoder_dims": [10, 6], "decoder_dims": [7]},
        },
        "plain": {**_LATENT, "stopping": None, "autoencoder": {"encoder_dims": [6], "sample_latent": False}},
        "lightgcn": {
            **_LATENT,
            "clusters": {
                "count": 2,
                "embedding_size": 4,
                "embeddings": "lightgcn",
                "lightgcn": {"epochs": 2, "layers": 1},
            },
        },
    },
    "ease": {"default": {}, "weak": {"ridge": 20.0}, "denoising": {"ridge": 5.0, "dropout": 0.3}},
    "item-knn": {
        "default": {},
        "history": {"neighbours": 5, "neighbours_of": "history", "normalize": True, "shrinkage": 3.0},
        "gram": {"neighbours": 6, "norm": "gram", "weighting": "bm25"},
    },
    "lightgcn": {
        "bpr": {"embedding_size": 6, "layers": 2, "epochs": 3, "batch_size": 64, "stopping": _STOPPING},
        "softmax": {
            "embedding_size": 6,
            "layers": 1,
            "epochs": 3,
            "batch_size": 64,
            "loss": "softmax",
            "negatives": 16,
            "users": "from-items",
            "decay": "linear",
            "stopping": None,
        },
    },
    "mult-dae": {
        "default": {"dims": [6], "epochs": 4, "batch_size": 16, "stopping": _STOPPING},
        "deep": {"dims": [10, 6], "epochs": 3, "batch_size": 16, "stopping": None, "activation": "relu"},
    },
    "mult-vae": {
        "default": {"dims": [10, 6], "epochs": 4, "batch_size": 16, "kl_batches": 5, "stopping": _STOPPING},
        "shallow": {"dims": [6], "epochs": 3, "batch_size": 16, "stopping": None, "precision": "bfloat16"},
    },
    "neumf": {
        "default": {"factors": 4, "layers": 2, "epochs": 2, "batch_size": 32},
        "remembering": {
            "factors": 3,
            "layers": 3,
            "epochs": 2,
            "batch_size": 32,
            "negatives": 3,
            "remember_users": True,
        },
    },
    "popularity": {"default": {}},
    "pure-svd": {"default": {"rank": 6}, "scaled": {"rank": 5, "scaling": 0.4}},
    "recency": {
        "default": {},
        "rows": {
            "inner": {"kind": "ease", "ridge": 50.0},
            "train_rows": True,
            "unit": "days",
            "half_life": 2.0,
        },
        "knn": {"inner": {"kind": "item-knn", "neighbours": 8}, "unit": "seconds", "half_life": 50000.0},
    },
    "row-mlp": {
        "default": {"embedding_size": 4, "dims": [8, 6], "epochs": 3},
        "last": {
            "dims": [10],
            "epochs": 3,
            "dropout_after": "each",
            "initialization": "glorot",
            "keep": "last",
            "patience": 2,
            "optimizer": {"name": "adam", "epsilon": 1e-7},
        },
        "all": {"dims": [10], "epochs": 2, "patience": None},
    },
    "rp3beta": {
        "default": {},
        "target": {
            "alpha": 0.8,
            "beta": 0.3,
            "neighbours": 6,
            "neighbours_of": "target",
            "normalize": "target",
        },
        "source": {"alpha": 0.7, "beta": 0.2, "neighbours": 6, "normalize": "source"},
    },
    "sansa": {"default": {"ridge": 2.0, "density": 0.2}},
    "slim": {"default": {}, "signed": {"l1": 0.5, "l2": 10.0, "neighbours": 8, "nonnegative": False}},
    "sparse-ease": {"default": {}, "few": {"ridge": 50.0, "neighbours": 6}},
    "truncated-svd": {"default": {"rank": 5}, "randomized": {"rank": 4, "algorithm": "randomized"}},
    "user-knn": {
        "default": {},
        "few": {"neighbours": 5, "shrinkage": 2.0, "normalize": True},
        "weighted": {"neighbours": 6, "weighting": "tf-idf"},
    },
}
"""Settings of recommenders by kind and by a name for them; other kinds have their defaults."""

VAE: Mapping[str, Any] = {
    "hidden": 16,
    "latent": 6,
    "epochs": 4,
    "batch_size": 20,
    "stopping": {"metric": "capped_recall@5", "patience": 3, "users": 0.2},
}
DIFFUSION: Mapping[str, Any] = {"steps": 5, "epochs": 3, "batch_size": 16, "hidden_layers": 1}
PUBLISHED_DIFFUSION: Mapping[str, Any] = {
    "noise_without_root": True,
    "tied_hidden_layers": True,
    "sampling_dropout": True,
    "hidden_layers": 2,
    "objective": "sdrm",
    "output": "tanh",
    "dropout": 0.5,
    "standardized": False,
}

SYNTHESIZERS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sdrm": {
        "full": {"vae": VAE, "diffusion": DIFFUSION},
        "multi-resolution": {
            "vae": VAE,
            "diffusion": {**DIFFUSION, **PUBLISHED_DIFFUSION},
            "sampling": "multi-resolution",
            "discretization": {"rule": "user-counts"},
        },
        "noise": {
            "vae": VAE,
            "diffusion": {**DIFFUSION, "objective": "noise", "output": "identity", "decay": "none"},
            "discretization": {"rule": "zero-threshold"},
        },
        "paper": {
            "vae": {**VAE, "prior": "standard"},
            "diffusion": {**DIFFUSION, **PUBLISHED_DIFFUSION},
            "discretization": {"rule": "equal-sparsity"},
            "precision": "bfloat16",
        },
        "private": {
            "vae": {**VAE, "stopping": None, "prior": "standard"},
            "diffusion": {**DIFFUSION, "objective": "noise", "output": "tanh", "standardized": False},
            "privacy": {"epsilon": 8.0, "delta": 1e-3},
        },
    },
    "vae-sampler": {
        "raw": {"vae": VAE, "discretization": {"rule": "raw"}},
        "standard": {
            "vae": {**VAE, "prior": "standard", "stopping": None},
            "discretization": {"rule": "equal-sparsity", "per": "user"},
        },
    },
    "independent-items": {"real": {}, "free": {"counts": "free"}},
    "flipped-users": {"default": {}, "more": {"fraction": 0.6}},
    "cooccurrence-walk": {"default": {}, "restarting": {"restart": 0.5}},
    "diffrec-sampler": {
        "default": {"model": {**_TRAINED, "sampling": {"start_steps": 3, "noise": True}, "stopping": None}},
        "threshold": {
            "model": {**_TRAINED, "sampling": {"start_steps": 3, "noise": True}},
            "discretization": {"rule": "zero-threshold"},
        },
    },
}
"""The same for synthesizers."""

SPLITS: Mapping[str, Mapping[str, Any]] = {
    "random": {"kind": "random"},
    "random-n": {"kind": "random", "n": 2},
    "block": {"kind": "block", "fraction": 0.3},
    "leave-last": {"kind": "leave-last"},
    "leave-last-3": {"kind": "leave-last", "n": 3},
    "time": {"kind": "time", "fraction": 0.2},
    "time-after": {"kind": "time", "after": 500_000},
    "users": {"kind": "users", "fraction": 0.2},
    "ratio": {"kind": "ratio"},
    "ratio-time": {"kind": "ratio", "order": "time", "by": "all", "validation": 0.2, "held_out": 0.2},
    "ratio-time-user": {"kind": "ratio", "order": "time", "validation": 0.0},
    "ratio-all": {"kind": "ratio", "by": "all"},
    "leave-one-out": {"kind": "leave-one-out"},
    "leave-one-out-random": {"kind": "leave-one-out", "order": "random", "validation": False},
    "files": {"kind": "files"},
    "files-validation": {"kind": "files", "validation": "valid"},
    "files-shown": {"kind": "files", "validation": "valid", "histories": "train-and-validation"},
}
"""Ways to split, as recipes write them."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "ease-paper": {"model": {"kind": "ease", "ridge": 50.0}, "protocol": {"kind": "paper"}},
    "diffrec-paper": {
        "model": {"kind": "diffrec", **_TRAINED},
        "split": {"kind": "files", "validation": "valid"},
        "protocol": {"kind": "paper"},
    },
    "popularity-all": {
        "model": {"kind": "popularity"},
        "protocol": {
            "kind": "paper",
            "averaging": "all-users",
            "cutoffs": [1, 5, 10],
            "metrics": [
                "capped_recall",
                "precision",
                "hit_rate",
                "mrr",
                "map",
                "capped_map",
                "coverage",
                "gini",
            ],
        },
    },
    "mult-vae-strict": {
        "model": {"kind": "mult-vae", "dims": [6], "epochs": 3, "batch_size": 16, "stopping": _STOPPING},
        "split": {"kind": "files", "validation": "valid"},
        "protocol": {"kind": "strict"},
    },
    "ease-strict": {"model": {"kind": "ease"}, "protocol": {"kind": "strict"}},
    "bspm-strict": {"model": {"kind": "bspm", "low_pass": {"rank": 8}}, "protocol": {"kind": "strict"}},
}
"""Recipes of recommenders, run on generated parts. Strict ones search."""

UTILITY: Mapping[str, Any] = {
    "name": "sdrm/quick",
    "data": {"read": {"min_rating": 1.0}},
    "model": {
        "kind": "sdrm",
        "vae": {
            "hidden": 8,
            "latent": 4,
            "epochs": 3,
            "batch_size": 50,
            "stopping": {"metric": "capped_recall@5"},
        },
        "diffusion": {
            "steps": 4,
            "epochs": 2,
            "batch_size": 50,
            "hidden_layers": 1,
            "objective": "sdrm",
            "noise_without_root": True,
            "sampling_dropout": True,
        },
    },
    "downstream": {"kind": "truncated-svd", "rank": 3},
    "utility": {"metrics": ["capped_recall@5"]},
    "protocol": {"cutoffs": [1, 5], "metrics": ["capped_recall", "ndcg"], "resamples": 50},
}
"""A recipe of a synthesizer, run on generated rated users."""

DEPARTURES: Mapping[str, bool] = {
    "reported_users_stop": True,
    "dislikes_are_positives": True,
    "dislikes_are_held_out": True,
    "legacy_generator": True,
}
"""The departures of the authors' code that the second utility recipe takes."""
