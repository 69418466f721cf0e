"""Each figure on data whose image is known."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from data.augmentation.mcja import Recipe
from engine.retrieval import ranked
from engine.retrieval.cosine import cosine_ranking
from engine.retrieval.evaluation import evaluate_settings
from models.modules.mda import ModalityDistributionAdapter
from tools.figures import cmc, masks, ranked_lists, style
from tools.figures import distance_densities as distances
from tools.figures import embedding_map as embedding
from tools.figures import training_curves as curves
from tools.figures import vimc_examples as vimc
from tools.report import scalars
from utils.types import Features, Modality, ResultRow, Setting, Trial

RECIPE = Recipe(frozenset(), flip=False, crop=False, padding=0, erase=False)


def row(stage, epoch, ranking, r1, mAP, protocol="p"):
    return ResultRow(stage, epoch, protocol, None, None, ranking, r1, 0, 0, 0, mAP, 0)


def inside(figure) -> bool:
    """Whether nothing that is drawn reaches over the figure's edge."""
    drawn, (width, height) = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()), figure.get_size_inches()
    return drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height


def flat(value) -> np.ndarray:
    """An image of one colour, twice as high as wide."""
    return np.full((8, 4, 3), value, np.uint8)


# ------------------------------------------------------------------------------------------------------- what is shared


def test_style_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 31}):
        figure = cmc.cmc_figure({"cosine": {"p": np.array([50.0, 100.0])}})
        style.to_png(figure)
        assert matplotlib.rcParams["font.size"] == 31
    assert figure.axes[0].xaxis.label.get_fontsize() == style.TEXT >= 9
    assert dict(matplotlib.rcParams) == before
    home = Path(style.__file__).parent.parent
    assert not [path for path in home.rglob("*.py") if "pyplot" in path.read_text(encoding="utf-8")]


def test_png_has_the_figures_size_on_white():
    figure = style.new_figure(2.0, 3.0)
    figure.add_subplot()
    with Image.open(io.BytesIO(style.to_png(figure))) as image:
        assert (image.format, image.size) == ("PNG", (3 * style.DPI, 2 * style.DPI))
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_small_png_keeps_black_and_white_and_is_near_elsewhere():
    figure = Figure(figsize=(1, 1))
    axes = figure.add_axes((0, 0, 1, 1))
    colours = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    style.show_image(axes, colours, interpolation="nearest", aspect="auto")
    with Image.open(io.BytesIO(style.to_png(figure, small=True))) as image:
        shown = np.asarray(image)
    assert shown.shape == (style.SMALL_DPI, style.SMALL_DPI, 3)
    assert set(np.unique(shown)) == set(range(0, 256, 17))
    assert shown[2, 2].tolist() == [0, 0, 0] and shown[-3, -3].tolist() == [255, 255, 255]


def test_no_figure_is_cut_off():
    """Images of real proportions and long numbers."""
    large = 1e5
    image = np.zeros((128, 64, 3), np.uint8)
    person = ranked_lists.Person(image, int(large), 6)
    shown = ranked_lists.RankedList(
        "worst", person, Modality.VISIBLE, 0.5, [ranked_lists.Found(person, 0.5, 2)] * 10, ranked.Match(0, 1, 301)
    )
    operation = vimc.Operation("Weighted grayscale", np.stack([image] * 6), ["33 : 33 : 34"] * 6)
    points = np.array([[0.0, 0], [1, 0], [5, 5], [6, 5]])
    pairs = distances.Pairs(np.linspace(0, 0.5, 1000), np.linspace(0.2, 1, 10**6))
    maps = {"stage 2": np.full((2, 12, 8, 4), 1 / 32), "stage 3": np.full((2, 12, 4, 2), 1 / 8)}
    figures = [
        ranked_lists.ranked_lists_figure([shown] * 3, "mser"),
        vimc.vimc_figure(image, [operation] * 3),
        embedding.embedding_figure(points, [4, 4, 9, int(large)], [0, 1, 0, 1]),
        distances.distances_figure({"cosine": pairs, "mser": pairs}),
        masks.masks_figure(np.stack([image] * 2), ["infrared, id 1", f"visible, id {large:.0f}"], maps),
        curves.curves_figure({name: [(1, large), (140, large / 7)] for name in ("loss", "id", "lr")}, []),
        cmc.cmc_figure({ranking: {"sysu/indoor/10-shot": np.linspace(1, 99, 20)} for ranking in ("cosine", "mser")}),
    ]
    for figure in figures:
        figure.draw_without_rendering()
    assert [inside(figure) for figure in figures] == [True] * len(figures)


# --------------------------------------------------------------------------------------------------------------- curves


def test_curves_show_every_epoch_in_a_panel_of_its_own():
    scalars = {"loss": [(1, 3.0), (2, 2.0)], "id": [(1, 1.0), (2, 0.5)], "accuracy": [(1, 0.25), (2, 0.5)], "lr": [(1, 1e-3), (2, 1e-4)]}  # fmt: skip
    rows = [row("initial", 0, "cosine", 5, 6), row("train", 2, "cosine", 50, 40), row("test", 2, "cosine", 99, 99), row("initial", 0, "cosine", 1, 1, "q")]  # fmt: skip
    panels = curves.curves_figure(scalars, rows).axes
    drawn = [[line.get_xydata().tolist() for line in axes.lines] for axes in panels]
    assert drawn == [
        [[[1, 3], [2, 2]]],
        [[[1, 1], [2, 0.5]]],
        [[[1, 25], [2, 50]]],
        [[[1, 1e-3], [2, 1e-4]]],
        [[[0, 5], [2, 50]], [[0, 6], [2, 40]]],
    ]
    assert [axes.get_ylabel() for axes in panels] == ["loss", "loss", "%", "rate", "%"]
    assert [axes.get_yscale() for axes in panels] == ["linear", "linear", "linear", "log", "linear"]
    assert {axes.get_xlabel() for axes in panels} == {"epoch"}
    assert [text.get_text() for text in panels[4].get_legend().get_texts()] == ["rank-1, p", "mAP, p"]
    assert "sum" in panels[0].get_title() and panels[1].get_title() == "Loss, id"


def test_curves_leave_out_empty_panels():
    assert len(curves.curves_figure({"id": [(1, 1.0)]}, []).axes) == 1
    with pytest.raises(ValueError, match="without a curve"):
        curves.curves_figure({}, [row("initial", 0, "cosine", 5, 6)])


def test_curves_of_a_resumed_run_keep_what_was_written_last(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for start, values in ((100, {1: 5.0, 2: 4.0, 3: 9.0}), (200, {3: 3.0, 4: 2.0})):
        with SummaryWriter(str(tmp_path)) as writer:
            for epoch, value in values.items():
                writer.add_scalar("train/loss", value, epoch, walltime=start + epoch)
                writer.add_scalar("p/r1", value, epoch, walltime=start + epoch)
    assert scalars.read_scalars(tmp_path) == {"loss": [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)]}
    assert scalars.read_scalars(tmp_path / "nowhere") == {}


# ------------------------------------------------------------------------------------------------------------------ CMC


def test_cmc_by_hand():
    """Two of three queries count: found at ranks 1 and 3. In the second trial both are first."""
    first = np.array([1, 3, 0])
    assert cmc.cmc_curve([first], 4).tolist() == [50, 50, 100, 100]
    assert cmc.cmc_curve([first, np.array([1, 1, 0])], 3).tolist() == [75, 75, 100]
    assert cmc.cmc_curve([np.array([0, 0])], 2).tolist() == [0, 0]


def test_cmc_figure_has_a_panel_for_each_ranking():
    found = {"cosine": {"a": np.array([20.0, 40.0]), "b": np.array([30.0, 60.0])}, "mser": {"a": np.array([50.0, 70.0])}}  # fmt: skip
    figure = cmc.cmc_figure(found)
    lines = [[line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes]
    assert lines == [[[[1, 20], [2, 40]], [[1, 30], [2, 60]]], [[[1, 50], [2, 70]]]]
    assert [axes.get_title() for axes in figure.axes] == ["cosine", "MSER (uses the other queries)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    a, b = figure.axes[0].lines
    assert a.get_color() == figure.axes[1].lines[0].get_color() != b.get_color() and a.get_marker() != b.get_marker()


# ------------------------------------------------------------------------------------------------------------ distances


def test_histograms_by_hand():
    pairs = distances.Pairs(np.array([0.0, 0.1, 0.6, 0.1]), np.array([0.6, 0.9, 1.0, 0.9, 0.6]))
    found = distances.histograms(pairs, bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    assert found.same.tolist() == [0.75, 0.25] and found.different.tolist() == [0, 1]
    assert found.overlap == 0.25
    assert distances.histograms(distances.Pairs(np.ones(3), np.ones(9))).overlap == 1


def test_distances_figure_draws_the_shares_and_says_the_overlap():
    pairs = distances.Pairs(np.linspace(0, 0.49, 10), np.linspace(0.51, 1, 20))
    (axes,) = distances.distances_figure({"cosine": pairs}).axes
    found = distances.histograms(pairs)
    outlines = [patch.get_data() for patch in axes.patches if not patch.get_fill()]
    assert np.allclose(outlines[0].values, 100 * found.same) and np.allclose(outlines[1].values, 100 * found.different)
    assert np.allclose(outlines[0].edges, found.edges)
    assert axes.get_title() == "cosine\noverlap 0.0 %"
    # under the panel, where it hides nothing
    assert axes.get_legend() is None
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["same identity, 10 pairs", "different identities, 20 pairs"]
    same, different = (patch for patch in axes.patches if not patch.get_fill())
    assert same.get_linestyle() != different.get_linestyle()


# --------------------------------------------------------------------------------------------------------- ranked lists


def test_best_median_and_worst_queries():
    precision = np.array([0.5, 0.9, 0.1, 0.0, 0.9, 0.7])
    counts = np.array([True, True, True, False, True, True])  # row 3 has no match
    assert ranked_lists.pick_queries(precision, counts, 1) == [("best", 1), ("median", 5), ("worst", 2)]
    # with two of each there is no query left between best and worst but one
    assert ranked_lists.pick_queries(precision, counts, 2) == [("best", 1), ("best", 4), ("median", 5), ("worst", 0), ("worst", 2)]  # fmt: skip
    assert ranked_lists.pick_queries(precision[:1], counts[:1], 1) == [("best", 0)]
    assert ranked_lists.pick_queries(precision, np.zeros(6, bool), 1) == []


def test_ranked_list_marks_right_and_wrong_by_colour_and_by_sign():
    found = [(7, 0.25, 60, 1), (8, 0.5, 90, 2), (7, 0.75, 120, 41)]
    gallery = [ranked_lists.Found(ranked_lists.Person(flat(grey), pid, 1), far, rank) for pid, far, grey, rank in found]
    query = ranked_lists.Person(flat(30), 7, 3)
    lists = [ranked_lists.RankedList(kind, query, Modality.INFRARED, 0.5, gallery[: 3 - n], ranked.Match(0, 1, 44)) for n, kind in enumerate(("best", "worst"))]  # fmt: skip
    figure = ranked_lists.ranked_lists_figure(lists, "mser")
    assert figure.get_suptitle() == "Ranked by MSER (uses the other queries)"
    best, worst = figure.subfigs
    assert best.get_suptitle() == "Best query (id 7, camera 3, infrared): AP 50.0 %, first right one at rank 1 of 44"
    panels = best.axes
    assert [axes.images[0].get_array()[0, 0, 0] for axes in panels] == [30, 60, 90, 120]
    assert [axes.get_xlabel() for axes in panels] == ["query\nid 7", "✓ 0.25\nid 7", "✗ 0.50\nid 8", "✓ 0.75\nrank 41"]
    sides = [axes.spines["left"] for axes in panels]
    assert [to_hex(side.get_edgecolor()).upper() for side in sides] == [style.BLACK, style.RIGHT, style.WRONG, style.RIGHT]  # fmt: skip
    dashed = [side.get_linestyle() != "-" for side in sides]
    assert dashed == [False, False, True, False]
    # a shorter list leaves its last places empty
    assert [axes.axison for axes in worst.axes] == [True, True, True, False]


# ------------------------------------------------------------------------------------------------------------ embedding


def test_random_shared_identities_are_shown_and_their_images_spread():
    pids = {Modality.VISIBLE: np.array([1, 2, 2, 2, 2, 2, 3]), Modality.INFRARED: np.array([3, 2, 4, 2])}
    rows = embedding.pick_images(pids, identities=5, images=3)
    assert rows[Modality.VISIBLE].tolist() == [1, 3, 5, 6] and rows[Modality.INFRARED].tolist() == [1, 3, 0]
    many = {modality: np.arange(100) for modality in Modality}
    shown = [embedding.pick_images(many)[modality].tolist() for modality in Modality]
    assert shown[0] == shown[1] == sorted(set(shown[0])) != list(range(10)) and len(shown[0]) == 10
    assert embedding.pick_images(many)[Modality.VISIBLE].tolist() == shown[0]  # the same in every run
    alone = embedding.pick_images({Modality.VISIBLE: np.array([1]), Modality.INFRARED: np.array([2])})
    assert [len(alone[modality]) for modality in Modality] == [0, 0]


def test_map_is_repeatable_and_keeps_groups_together():
    centres = np.eye(3)[np.repeat([0, 1, 2], 8)]
    vectors = centres + 0.01 * np.random.default_rng(0).normal(size=centres.shape)
    points = embedding.flatten(vectors)
    assert points.shape == (24, 2) and np.array_equal(points, embedding.flatten(vectors))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.array_equal(apart.argmin(axis=1) // 8, np.repeat([0, 1, 2], 8))


def test_map_colours_identities_and_marks_modalities():
    points = np.array([[0.0, 0], [1, 0], [5, 5], [6, 5]])
    figure = embedding.embedding_figure(points, [4, 4, 9, 9], [0, 1, 0, 1])
    (axes,) = figure.axes
    groups = axes.collections
    assert [group.get_offsets().tolist() for group in groups] == [[[0, 0]], [[1, 0]], [[5, 5]], [[6, 5]]]
    colours = [to_hex(group.get_facecolor()[0]) for group in groups]
    assert colours == [embedding.COLOURS[0]] * 2 + [embedding.COLOURS[1]] * 2
    corners = [len(group.get_paths()[0].vertices) for group in groups]
    assert corners[0] == corners[2] != corners[1] == corners[3] == 4  # circles and (closed) triangles
    labels = axes.texts
    assert [label.get_text() for label in labels] == ["4", "4", "9", "9"]
    nearest = [int(np.linalg.norm(points - label.get_position(), axis=1).argmin()) for label in labels]
    assert [nearest[n] // 2 for n in range(4)] == [0, 0, 1, 1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["visible", "infrared"]


# ---------------------------------------------------------------------------------------------------------------- masks


def test_masks_are_those_that_the_adapter_sums_with():
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.MDA_2 = torch.nn.ModuleList([ModalityDistributionAdapter(3, 2), ModalityDistributionAdapter(3, 2)])
    model.forward = lambda x: model.MDA_2[1](model.MDA_2[0](x))
    model.eval()
    images = torch.rand(2, 3, 4, 5)
    with torch.no_grad():
        scores = model.MDA_2[1].sc_conv(model.MDA_2[0](images)).exp()
    expected = scores / scores.sum(dim=(2, 3), keepdim=True)
    found = masks.collect_masks(model, images)
    assert list(found) == ["stage 2"]
    assert np.allclose(found["stage 2"], expected, atol=1e-6)
    assert not model.MDA_2[1].sc_conv._forward_hooks
    assert masks.collect_masks(torch.nn.Identity(), images) == {}


def test_mask_values_are_laid_over_the_images():
    values = np.zeros((2, 6, 2, 1), np.float32)
    values[0, :, 0], values[0, :, 1], values[1] = 0.25, 0.75, 0.5
    images = np.stack([flat(40), flat(80)])
    figure = masks.masks_figure(images, ["visible, id 1", "infrared, id 1"], {"stage 3": values})
    panels = np.reshape(figure.axes[:-1], (2, 1 + masks.MOST_MASKS))  # the last axes are the colour bar's
    assert [axes.get_title() for axes in panels[0, :2]] == ["image", "stage 3\nmask 1"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["visible, id 1", "infrared, id 1"]
    under, over = panels[0, 1].images
    assert np.all(under.get_array() == masks.soft(np.array(40)))
    assert over.get_array().ravel().tolist() == [0.5, 1.5] and panels[1, 1].images[1].get_array().tolist() == [[1], [1]]
    assert over.get_clim() == (0, 1.5) and tuple(over.get_extent()) == (-0.5, 3.5, 7.5, -0.5)
    assert "uniform" in figure.axes[-1].get_ylabel()


def test_the_colour_bar_shows_what_a_weight_looks_like_over_an_image():
    """The bar's colours over dark to bright grey are those of the overlay; weight 0 leaves the grey as it is."""
    values = np.full((1, 2, 2, 1), 0.5, np.float32)
    values[0, 1] = [[1.0], [0.0]]
    figure = masks.masks_figure(flat(0)[None], ["visible, id 1"], {"stage 3": values})
    under, over = figure.axes[1].images
    grey, weights = figure.axes[-1].images
    assert np.array_equal(weights.cmap.colors, over.cmap.colors)
    assert weights.get_clim() == over.get_clim() and grey.get_clim() == under.get_clim()
    assert grey.get_array()[0, 0] == under.get_array()[0, 0]  # both of a black pixel
    assert over.cmap(over.norm(0.0))[3] == 0 and (np.diff(over.cmap(np.arange(256))[:, 3]) > 0).all()
    assert weights.get_extent() == grey.get_extent() == [0, 1, 0, over.get_clim()[1]]


# ----------------------------------------------------------------------------------------------------------------- VIMC


def test_vimc_shows_what_the_operations_make_of_the_image():
    image = torch.randint(0, 256, (3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    red, green, blue = image.numpy()
    channel = {"R": red, "G": green, "B": blue}
    gray, mixed, jittered = vimc.operations(image, RECIPE, seed=3, count=4)
    for result, text in zip(gray.images, gray.parameters):
        weights = [int(share) / 100 for share in text.split(" : ")]
        assert abs(sum(weights) - 1) < 0.02
        expected = sum(weight * plane.astype(float) for weight, plane in zip(weights, (red, green, blue)))
        assert np.abs(result - expected[..., None]).max() <= 5  # the text is rounded to percents
    for result, text in zip(mixed.images, mixed.parameters):
        inside, outside = text.split(" in ")
        assert inside != outside and np.all(result[..., 0] == result[..., 2])
        patch = result[..., 0] != channel[outside]
        rows, columns = np.nonzero(patch)
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.all(result[..., 0][box] == channel[inside][box])
    for result, text in zip(jittered.images, jittered.parameters):
        name, keep = text.split(", a = ")
        gray_part = channel[name][..., None].astype(float)
        expected = gray_part + float(keep) * (image.permute(1, 2, 0).numpy() - gray_part)
        assert np.abs(result - expected).max() <= 3


def test_vimc_figure_has_the_original_and_every_result():
    shown = [vimc.Operation("First", np.stack([flat(1), flat(2)]), ["a", "b"]), vimc.Operation("Second", np.stack([flat(3), flat(4)]), ["c", "d"])]  # fmt: skip
    first, second = vimc.vimc_figure(flat(9), shown).subfigs
    assert first.get_suptitle() == "First"
    assert [axes.images[0].get_array()[0, 0, 0] for axes in first.axes] == [9, 1, 2]
    assert [axes.get_xlabel() for axes in first.axes] == ["original", "a", "b"]
    assert [axes.get_xlabel() for axes in second.axes] == ["original", "c", "d"]


# -------------------------------------------------------------------------------------------------------------- ranking


@pytest.fixture
def few() -> tuple[dict, Setting]:
    """3 visible queries against 6 infrared images; who is of one camera is skipped."""
    draw = torch.Generator().manual_seed(1)
    query = Features(torch.randn(1, 3, 4, generator=draw), torch.tensor([1, 2, 3]), torch.tensor([1, 1, 2]))
    gallery = Features(torch.randn(1, 6, 4, generator=draw), torch.tensor([1, 1, 2, 2, 3, 9]), torch.tensor([1, 2, 3, 1, 2, 3]))  # fmt: skip
    trials = [Trial(np.arange(3), np.array([0, 1, 2, 4])), Trial(np.arange(3), np.array([1, 3, 4, 5]))]
    features = {Modality.VISIBLE: query, Modality.INFRARED: gallery}
    return features, Setting("p", Modality.VISIBLE, trials)


def excluded(query_pids, query_cameras, gallery_pids, gallery_cameras):
    return query_cameras[:, None] == gallery_cameras[None, :]


def test_ranked_setting_agrees_with_the_evaluation(few):
    features, setting = few
    found = ranked.rank_setting(features, setting, excluded, cosine_ranking, 1.0)
    expected = evaluate_settings(features, [setting], excluded, cosine_ranking, 1.0)["p"]
    curve = cmc.cmc_curve(found.first, 20)
    assert [curve[k - 1] / 100 for k in (1, 5, 10, 20)] == pytest.approx([expected[f"r{k}"] for k in (1, 5, 10, 20)])
    assert len(found.first) == 2 and found.shown.trial is setting.trials[0]


def test_first_places_leave_out_what_a_query_skips(few):
    features, setting = few
    shown = ranked.rank_setting(features, setting, excluded, cosine_ranking, 1.0).shown
    units = {m: torch.nn.functional.normalize(features[m].embeddings[0], dim=1) for m in Modality}
    far = 1 - units[Modality.VISIBLE] @ units[Modality.INFRARED][[0, 1, 2, 4]].T
    assert torch.allclose(shown.distances, far, atol=1e-6)
    # query 0 skips column 0 (camera 1), query 2 skips columns 1 and 3 (camera 2)
    assert ranked.nearest(shown, 0, 9) == sorted([1, 2, 3], key=lambda column: far[0, column])
    assert ranked.nearest(shown, 2, 9) == sorted([0, 2], key=lambda column: far[2, column])
    assert ranked.nearest(shown, 2, 1) == ranked.nearest(shown, 2, 9)[:1]


def test_first_match_is_the_nearest_right_image_that_counts(few):
    features, setting = few
    shown = ranked.rank_setting(features, setting, excluded, cosine_ranking, 1.0).shown
    # query 0 (pid 1) skips column 0, so its match is column 1; query 2's only match is skipped
    order = ranked.nearest(shown, 0, 9)
    assert ranked.first_match(shown, 0) == ranked.Match(1, order.index(1) + 1, 3)
    assert ranked.first_match(shown, 2) is None


def test_pairs_leave_out_what_a_query_skips(few):
    features, setting = few
    shown = ranked.rank_setting(features, setting, excluded, cosine_ranking, 1.0).shown
    pairs = distances.Pairs(*ranked.pairs_of(shown))
    far = shown.distances
    # same: query 0 (pid 1) with column 1, query 1 (pid 2) with column 2; query 2's only match is skipped
    assert pairs.same.tolist() == [far[0, 1].item(), far[1, 2].item()]
    assert len(pairs.different) == int((~shown.skipped).sum()) - 2
