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
    nodes = np.concatenate([*query, *gallery])
    queries = query.shape[0] * query.shape[1]
    dist = squared_distances(nodes)
    order = nearest_first(dist, queries if queries_only else len(nodes))
    near = [row[: k1 + 1] for row in order]
    sets = [[j for j in near[i] if i in near[j]] for i in range(len(nodes))]
    final = rerank(dist, order, sets, k2, lam, queries)
    return final.reshape(len(query), query.shape[1], len(gallery), gallery.shape[1]).mean(axis=(0, 2))


def k_reciprocal(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lam: float) -> np.ndarray:
    """k-reciprocal encoding with its expansion step, node by node: [Q, D], [G, D] -> [Q, G]."""
    nodes = np.concatenate([query, gallery])
    dist = squared_distances(nodes)
    order = nearest_first(dist, len(nodes))

    def mutual(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    sets = []
    for i in range(len(nodes)):
        core, grown = mutual(i, k1), mutual(i, k1)
        for j in core:
            smaller = mutual(j, round(k1 / 2))
            if len(smaller & core) > 2 / 3 * len(smaller):
                grown |= smaller
        sets.append(sorted(grown))
    return rerank(dist, order, sets, k2, lam, len(query))


def squared_distances(nodes: np.ndarray) -> np.ndarray:
    """[N, D] -> [N, N] float64, row by row."""
    nodes = nodes.astype(np.float64)
    return np.array([((nodes - node) ** 2).sum(axis=1) for node in nodes])


def nearest_first(dist: np.ndarray, candidates: int) -> list[list[int]]:
    """The first `candidates` nodes for every node, the nearest first, ties in the order of their index."""
    return [sorted(range(candidates), key=lambda j: (row[j], j)) for row in dist]


def rerank(
    dist: np.ndarray, order: list[list[int]], sets: list[list[int]], k2: int, lam: float, queries: int
) -> np.ndarray:
    """From the nodes' sets of neighbours to the final distances, [queries, nodes - queries]."""
    count = len(dist)
    largest = dist.max(axis=1, keepdims=True)
    scaled = np.divide(dist, largest, out=np.zeros_like(dist), where=largest > 0)
    weights = np.zeros((count, count))
    for i, members in enumerate(sets):
        weights[i, members] = np.exp(-scaled[i, members])
        if members:
            weights[i] /= weights[i].sum()
    if k2 > 1:
        weights = np.array([weights[row[:k2]].mean(axis=0) for row in order])
    final = np.empty((queries, count - queries))
    for i in range(queries):
        for j in range(queries, count):
            shared = np.minimum(weights[i], weights[j]).sum()
            final[i, j - queries] = (1 - lam) * (1 - shared / (2 - shared)) + lam * scaled[i, j]
    return final
