"""Our metrics of the rankings that the released evaluators were given, under the rule of each data set.

For RegDB the siblings' CMC counts images, ours identities, as the paper's does; they agree in rank-1.
"""

import numpy as np
import pytest
import torch

from data.sets import llcm, regdb, sysu
from engine.retrieval.metrics import RANKS, ranking_metrics
from tests.conftest import golden

EVALUATORS = ("agw_eval", "llcm_eval", "djanet_eval", "ivreid_eval")
EXCLUDED = {"sysu": sysu.excluded, "regdb": regdb.excluded, "llcm": llcm.excluded}
FILES = {name: golden(f"siblings/{name}") for name in EVALUATORS}
CASES = [
    (name, case, rule)
    for name, numbers in FILES.items()
    for case in numbers["m_cases"].tolist()
    for rule in EXCLUDED
    if f"m_{case}__{rule}_cmc" in numbers and (name, rule) != ("llcm_eval", "sysu")  # it has cameras that SYSU has not
]


@pytest.mark.parametrize(("name", "case", "rule"), CASES)
def test_small_rankings(name, case, rule):
    own = {
        key.removeprefix(f"m_{case}__"): array for key, array in FILES[name].items() if key.startswith(f"m_{case}__")
    }
    labels = [torch.from_numpy(own[key]) for key in ("query_ids", "query_cams", "gallery_ids", "gallery_cams")]
    found = ranking_metrics(own["dist"], labels[0], labels[2], EXCLUDED[rule](*labels))
    cmc = np.ravel(own[f"{rule}_cmc"])
    expected = {f"r{k}": cmc[k - 1] for k in RANKS if k <= len(cmc) and (k == 1 or rule != "regdb")}
    expected |= {metric: own[f"{rule}_{metric}"] for metric in ("mAP", "mINP") if f"{rule}_{metric}" in own}
    assert {metric: found[metric] for metric in expected} == pytest.approx(
        {metric: float(value) for metric, value in expected.items()}, abs=1e-6
    )
