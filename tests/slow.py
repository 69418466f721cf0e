"""The definitions, written as loops in float64: what the fast code is held against. Slow on purpose."""

from __future__ import annotations

import numpy as np


def soft_rank(values: np.ndarray, strength: float) -> np.ndarray:
    """Soft ascending ranks of one row [n], by pool-adjacent-violators."""
    theta = values / strength
    order = np.argsort(-theta, kind="stable")
    n = len(values)
    target = theta[order] - np.arange(n, 0, -1)
    blocks = []  # [sum, size]
    for value in target:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] <= blocks[-1][0] / blocks[-1][1]:
            total, size = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += size
    fit = np.concatenate([np.full(size, total / size) for total, size in blocks])
    ranks = np.empty(n)
    ranks[order] = theta[order] - fit
    return ranks


def cmr_loss(embeddings: np.ndarray, pids: np.ndarray, modalities: np.ndarray, strength: float) -> float:
    """Cross-Modality Retrieval loss, query by query."""
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    terms = []
    for modality in np.unique(modalities):
        errors = []
        gallery = np.flatnonzero(modalities != modality)
        for query in np.flatnonzero(modalities == modality):
            match = pids[gallery] == pids[query]
            if match.any() and not match.all():
                ranks = soft_rank((1 - units[gallery] @ units[query]) / 2, strength)
                errors.append(np.abs(ranks - np.where(match, 1, len(gallery))).mean())
        if errors:
            terms.append(np.mean(errors))
    return float(np.mean(terms)) if terms else 0.0


def metrics(
    dist: np.ndarray, query_pids: np.ndarray, gallery_pids: np.ndarray, excluded: np.ndarray
) -> dict[str, float]:
    """CMC over identities, mAP and mINP, query by query."""
    first, precisions, penalties = [], [], []
    for row, pid, out in zip(dist, query_pids, excluded):
        ranked = [g for g in sorted(range(len(row)), key=lambda g: (row[g], g)) if not out[g]]
        pids = [gallery_pids[g] for g in ranked]
        if pid not in pids:
            continue
        first.append(list(dict.fromkeys(pids)).index(pid) + 1)
        places = [place for place, other in enumerate(pids, start=1) if other == pid]
        precisions.append(np.mean([found / place for found, place in enumerate(places, start=1)]))
        penalties.append(len(places) / places[-1])
    if not first:
        return dict.fromkeys(["r1", "r5", "r10", "r20", "mAP", "mINP"], 0.0)
    cmc = {f"r{k}": float(np.mean([place <= k for place in first])) for k in (1, 5, 10, 20)}
    return {**cmc, "mAP": float(np.mean(precisions)), "mINP": float(np.mean(penalties))}


def mser(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lam: float, queries_only: bool) -> np.ndarray:
    """Multi-Spectral Enhanced Ranking, node by node: [Vq, Q, D], [Vg, G, D] -> [Q, G]."""
    nodes = np.concatenate([*query, *gallery]).astype(np.float64)
    count, queries = len(nodes), query.shape[0] * query.shape[1]
    dist = ((nodes[:, None] - nodes[None]) ** 2).sum(axis=2)
    scaled = dist / dist.max(axis=1, keepdims=True)
    allowed = range(queries if queries_only else count)

    def closest(i: int, k: int) -> list[int]:
        return sorted(allowed, key=lambda j: (dist[i, j], j))[:k]

    near = [closest(i, k1 + 1) for i in range(count)]
    weights = np.zeros((count, count))
    for i in range(count):
        mutual = [j for j in near[i] if i in near[j]]
        weights[i, mutual] = np.exp(-scaled[i, mutual])
        if mutual:
            weights[i] /= weights[i].sum()
    if k2 > 1:
        weights = np.array([weights[closest(i, k2)].mean(axis=0) for i in range(count)])
    final = np.empty((queries, count - queries))
    for i in range(queries):
        for j in range(queries, count):
            shared = np.minimum(weights[i], weights[j]).sum()
            final[i, j - queries] = (1 - lam) * (1 - shared / (2 - shared)) + lam * scaled[i, j]
    return final.reshape(len(query), query.shape[1], len(gallery), gallery.shape[1]).mean(axis=(0, 2))
