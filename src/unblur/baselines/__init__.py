"""Simple recommenders that any other must beat."""

from __future__ import annotations

from unblur.baselines.als import ALS as ALS
from unblur.baselines.ease import EASE as EASE
from unblur.baselines.item_knn import ItemKNN as ItemKNN
from unblur.baselines.lightgcn import LightGCN as LightGCN
from unblur.baselines.mult_vae import MultDAE as MultDAE
from unblur.baselines.mult_vae import MultVAE as MultVAE
from unblur.baselines.popularity import Popularity as Popularity
from unblur.baselines.pure_svd import PureSVD as PureSVD
from unblur.baselines.recency import Recency as Recency
from unblur.baselines.rp3beta import RP3Beta as RP3Beta
from unblur.baselines.slim import SLIM as SLIM
from unblur.baselines.sparse_ease import SparseEASE as SparseEASE
from unblur.baselines.user_knn import UserKNN as UserKNN
