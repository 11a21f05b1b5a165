"""RecBole's options: each name, its default there, what its value is, and why some change nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from unblur.errors import RecipeError

Kind: TypeAlias = Literal["whole", "number", "truth", "text", "widths", "any"]
MODELS: Mapping[str, str] = MappingProxyType({"DiffRec": "diffrec", "LDiffRec": "l-diffrec"})
"""RecBole's names of the models, and the kinds of ours."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of RecBole's options."""

    default: Any
    kind: Kind = "any"
    """What its value is: a whole number, a number, a truth value, text, a list of whole numbers, or anything."""
    idle: str = ""
    """Why it changes nothing here; empty where it does something."""
    only: Any = None
    """With `reason`: the one value, beside the default and `None`, that can be honoured."""
    reason: str = ""
    """Why no other value than the default can be honoured; empty where others can."""


def _idle(default: Any, why: str) -> Parameter:
    return Parameter(default, idle=why)


_MACHINE = "it says only where and how that program runs"
_LOGGING = "it says only what that program logs"
_FILES = "nothing of the kind is written: data are read and split again from the seed"
_OTHER_MODELS = "these models do not use it"
_SIDE = "these models see interactions and nothing beside them"
_EXACT = "scores of a row do not depend on the batch"

_DIFFUSION: Mapping[str, Parameter] = {
    "noise_schedule": Parameter("linear", "text"),
    "noise_scale": Parameter(0.001, "number"),
    "noise_min": Parameter(0.0005, "number"),
    "noise_max": Parameter(0.005, "number"),
    "sampling_noise": Parameter(False, "truth"),
    "sampling_steps": Parameter(0, "whole"),
    "reweight": Parameter(True, "truth"),
    "mean_type": Parameter("x0", "text"),
    "steps": Parameter(5, "whole"),
    "history_num_per_term": Parameter(10, "whole"),
    "beta_fixed": Parameter(True, "truth"),
    "dims_dnn": Parameter((300,), "widths"),
    "embedding_size": Parameter(10, "whole"),
    "mlp_act_func": Parameter("tanh", "text"),
    "norm": Parameter(False, "truth"),
    "time-aware": Parameter(False, "truth"),
    "w_max": Parameter(1.0, "number"),
    "w_min": Parameter(0.1, "number"),
}

_LATENT: Mapping[str, Parameter] = {
    "noise_scale": Parameter(0.1, "number"),
    "noise_min": Parameter(0.001, "number"),
    "n_cate": Parameter(1, "whole"),
    "reparam": Parameter(True, "truth"),
    "in_dims": Parameter((300,), "widths"),
    "out_dims": Parameter((), "widths"),
    "ae_act_func": Parameter("tanh", "text"),
    "lamda": Parameter(0.03, "number"),
    "anneal_cap": Parameter(0.005, "number"),
    "anneal_steps": Parameter(1000, "whole"),
    "vae_anneal_cap": Parameter(0.3, "number"),
    "vae_anneal_steps": Parameter(200, "whole"),
}

_TRAINING: Mapping[str, Parameter] = {
    "epochs": Parameter(300, "whole"),
    "train_batch_size": Parameter(2048, "whole"),
    "learner": Parameter("adam", "text"),
    "learning_rate": Parameter(0.001, "number"),
    "weight_decay": Parameter(0.0, "number"),
    "clip_grad_norm": Parameter(None),
    "eval_step": Parameter(1, "whole"),
    "stopping_step": Parameter(10, "whole"),
    "neg_sampling": _idle({"uniform": 1}, "these models draw no negative items"),
    "train_neg_sample_args": _idle(None, "these models draw no negative items"),
    "loss_decimal_place": _idle(4, _LOGGING),
    "require_pow": _idle(False, _OTHER_MODELS),
    "enable_amp": Parameter(False, reason="training is in float32"),
    "enable_scaler": _idle(False, "it belongs to enable_amp"),
    "transform": Parameter(None, reason="rows of items are not transformed"),
}

_EVALUATION: Mapping[str, Parameter] = {
    "eval_args": Parameter({}),
    "metrics": Parameter(("Recall", "MRR", "NDCG", "Hit", "Precision")),
    "topk": Parameter((10,)),
    "valid_metric": Parameter("MRR@10", "text"),
    "valid_metric_bigger": Parameter(True, "truth"),
    "metric_decimal_place": Parameter(4, "whole"),
    "eval_batch_size": _idle(4096, _EXACT),
    "repeatable": Parameter(False, reason="lists leave out what the user had before"),
    "eval_neg_sample_args": Parameter(None, reason="all items are ranked"),
}

_DATA: Mapping[str, Parameter] = {
    "data_path": Parameter(None, "text"),
    "USER_ID_FIELD": Parameter("user_id", "text"),
    "ITEM_ID_FIELD": Parameter("item_id", "text"),
    "RATING_FIELD": Parameter("rating", "text"),
    "TIME_FIELD": Parameter("timestamp", "text"),
    "field_separator": Parameter("\t", "text"),
    "load_col": Parameter(None),
    "unload_col": Parameter(None),
    "user_inter_num_interval": Parameter(None),
    "item_inter_num_interval": Parameter(None),
    "val_interval": Parameter(None),
    "rm_dup_inter": Parameter(None),
    "threshold": _idle(
        None,
        "it writes labels, which these models and full ranking do not read; val_interval leaves rows out",
    ),
    "benchmark_filename": Parameter(
        None, reason="read the parts as a folder with train, valid and test files: unblur run --data FOLDER"
    ),
    "additional_feat_suffix": _idle(None, _SIDE),
    "filter_inter_by_user_or_item": _idle(True, _SIDE),
    "unused_col": _idle(None, _SIDE),
    "numerical_features": _idle([], _SIDE),
    "normalize_field": _idle(None, _SIDE),
    "normalize_all": _idle(None, _SIDE),
    "discretization": _idle(None, _SIDE),
    "fields_in_same_space": _idle(None, _SIDE),
    "preload_weight": _idle(None, _OTHER_MODELS),
    "seq_separator": _idle(" ", _SIDE),
    "LABEL_FIELD": _idle("label", _OTHER_MODELS),
    "NEG_PREFIX": _idle("neg_", _OTHER_MODELS),
    "LIST_SUFFIX": _idle("_list", _OTHER_MODELS),
    "ITEM_LIST_LENGTH_FIELD": _idle("item_length", _OTHER_MODELS),
    "MAX_ITEM_LIST_LENGTH": _idle(50, _OTHER_MODELS),
    "POSITION_FIELD": _idle("position_id", _OTHER_MODELS),
    "encoding": Parameter("utf-8", only="utf8", reason="files are read as UTF-8"),
}

_ENVIRONMENT: Mapping[str, Parameter] = {
    "seed": Parameter(2020, "whole"),
    "use_gpu": Parameter(True, "truth"),
    "device": Parameter(None, "text"),
    "checkpoint_dir": Parameter("saved", "text"),
    "gpu_id": _idle(0, _MACHINE),
    "worker": _idle(0, _MACHINE),
    "nproc": _idle(1, _MACHINE),
    "world_size": _idle(-1, _MACHINE),
    "local_rank": _idle(0, _MACHINE),
    "group_offset": _idle(0, _MACHINE),
    "ip": _idle("localhost", _MACHINE),
    "port": _idle(5678, _MACHINE),
    "single_spec": _idle(True, _MACHINE),
    "shuffle": Parameter(True, reason="rows are put in a new random order every epoch"),
    "reproducibility": _idle(True, "a seed always gives the same run"),
    "state": _idle("INFO", _LOGGING),
    "show_progress": _idle(True, "progress goes to the observer that the caller gives"),
    "log_wandb": _idle(False, _LOGGING),
    "wandb_project": _idle("recbole", _LOGGING),
    "save_dataset": _idle(False, _FILES),
    "dataset_save_path": _idle(None, _FILES),
    "save_dataloaders": _idle(False, _FILES),
    "dataloaders_save_path": _idle(None, _FILES),
}


def parameters(model: str) -> dict[str, Parameter]:
    """Every option that a model has, by name, with the model's own defaults.

    Raises `RecipeError` for a model that is neither DiffRec nor LDiffRec.
    """
    if model not in MODELS:
        lowered = {known.lower(): known for known in MODELS}
        hint = f" Did you mean {lowered[model.lower()]!r}?" if str(model).lower() in lowered else ""
        raise RecipeError(
            f"Of RecBole's models there are {' and '.join(MODELS)} here; saw {model!r}.{hint} Name one of them."
        )
    own = {**_DIFFUSION, **(_LATENT if model == "LDiffRec" else {})}
    return {**own, **_TRAINING, **_EVALUATION, **_DATA, **_ENVIRONMENT}


def latent_only() -> tuple[str, ...]:
    """The options that LDiffRec has and DiffRec has not."""
    return tuple(name for name in _LATENT if name not in _DIFFUSION)
