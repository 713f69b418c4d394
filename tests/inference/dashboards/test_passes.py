"""A pass against brute force on the same activations, and against itself with other shards."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.dashboards.bands import N_BAND, N_KEPT, BandSample
from inference.dashboards.bins import fine_bins, shown_edges
from inference.dashboards.corpus import Cancelled, local_keys
from inference.dashboards.encoding import ActivationsNotFinite
from inference.dashboards.examples import N_SILENT, N_TOP
from inference.dashboards.gathering import Stretch
from inference.dashboards.places import Places
from inference.dashboards.results import BANDS, HARD_SILENT, RANDOM_SILENT, TOP
from inference.dictionaries import load_dictionary
from inference.dictionaries.config import DictionaryDoesNotFit
from inference.errors import InvalidInput
from tests.inference.dashboards.conftest import SHARD_TOKENS, Dense, all_arrays, make_setting
from tests.tiny import tiny_dictionary

SOURCES = ("1-res-topk", "2-att-topk", "1-tc-jump")


@pytest.mark.parametrize("source", SOURCES)
def test_statistics_equal_brute_force(result, dense, source):
    board, a = result.dashboards[source], dense(source).a_tf.astype(np.float64)
    context_t = dense(source).context_t
    assert board.n_tokens == len(a) == result.contexts.n_tokens
    np.testing.assert_array_equal(board.firing_count_f, (a > 0).sum(0))
    np.testing.assert_array_equal(board.context_count_f, (dense(source).peak_cf > 0).sum(0))
    for power, total in enumerate((board.total_f, board.total_sq_f, board.total_cube_f, board.total_fourth_f), 1):
        np.testing.assert_allclose(total, (a**power).sum(0), rtol=1e-12)
    np.testing.assert_array_equal(board.maximum_f, a.max(0).astype(np.float32))
    l0 = (a > 0).sum(1)
    assert board.l0_mean == pytest.approx(l0.mean())
    assert board.l0_median == np.quantile(l0, 0.5, method="inverted_cdf")
    assert board.l0_p90 == np.quantile(l0, 0.9, method="inverted_cdf")
    assert board.dead == (a.max(0) == 0).sum()
    assert board.dense == ((a > 0).mean(0) > 0.1).sum()
    assert context_t[-1] == len(result.contexts) - 1


@pytest.mark.parametrize("source", SOURCES)
def test_histograms_count_every_activation(result, dense, source):
    board, a = result.dashboards[source], dense(source).a_tf
    edges = shown_edges()
    edges[0], edges[-1] = 0, np.inf
    for feature in range(0, board.n_features, 7):
        values = a[:, feature][a[:, feature] > 0]
        np.testing.assert_array_equal(board.log_histogram_fb[feature], np.histogram(values, edges)[0])
        shares = values / board.maximum_f[feature] if len(values) else values
        exact = [((shares > low) & (shares <= high)).sum() for low, high in BANDS.values()]
        assert board.band_count_fb[feature].sum() == pytest.approx(len(values))
        # Interpolated inside bins a quarter of an octave wide.
        np.testing.assert_allclose(board.band_count_fb[feature], exact, atol=0.15 * len(values) + 2)


@pytest.mark.parametrize("source", SOURCES)
def test_token_statistics_equal_brute_force(result, dense, source):
    board, brute = result.dashboards[source], dense(source)
    ids = result.contexts.token_ids_t[brute.token_t]
    for feature in range(0, board.n_features, 11):
        a = brute.a_tf[:, feature].astype(np.float64)
        mass = np.bincount(ids, weights=a, minlength=512)
        if not mass.sum():
            assert (board.peak_token_ids_fk[feature] == -1).all()
            continue
        share = mass[mass > 0] / mass.sum()
        assert board.token_entropy_f[feature] == pytest.approx(-(share * np.log(share)).sum(), rel=1e-5, abs=1e-6)
        assert board.n_tokens_seen_f[feature] == (mass > 0).sum()
        order = np.lexsort((np.arange(512), -mass))[:16]
        order = np.where(mass[order] > 0, order, -1)
        np.testing.assert_array_equal(board.peak_token_ids_fk[feature], order)
        fires = np.bincount(ids[a > 0], minlength=512)
        np.testing.assert_array_equal(board.peak_token_counts_fk[feature], np.where(order >= 0, fires[order], 0))


@pytest.mark.parametrize("source", SOURCES)
def test_next_tokens_are_those_behind_the_peaks_of_all_contexts(result, dense, source):
    board, brute, contexts = result.dashboards[source], dense(source), result.contexts
    for feature in range(0, board.n_features, 5):
        counts: dict[int, int] = {}
        for context in np.flatnonzero(brute.peak_cf[:, feature] > 0):
            mine = brute.context_t == context
            behind = brute.token_t[mine][brute.a_tf[mine, feature].argmax()] + 1
            if behind < contexts.indptr_c[context + 1]:
                token = int(contexts.token_ids_t[behind])
                counts[token] = counts.get(token, 0) + 1
        expected = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:8]
        expected += [(-1, 0)] * (8 - len(expected))
        found = zip(
            board.next_token_ids_fk[feature].tolist(), board.next_token_counts_fk[feature].tolist(), strict=True
        )
        assert list(found) == expected


@pytest.mark.parametrize("source", SOURCES)
def test_co_firing_equals_the_dense_product(result, dense, source):
    board, fires = result.dashboards[source], (dense(source).a_tf > 0).astype(np.int64)
    both, count = fires.T @ fires, fires.sum(0)
    jaccard = np.where(both >= 5, both / np.maximum(count[:, None] + count - both, 1), 0)
    np.fill_diagonal(jaccard, 0)
    assert board.co_firing_exact
    for feature in range(board.n_features):
        order = np.lexsort((np.arange(len(count)), -jaccard[feature]))[:16]
        order = np.where(jaccard[feature][order] > 0, order, -1)
        np.testing.assert_array_equal(board.co_firing_ids_fk[feature], order)
        expected = np.where(order >= 0, both[feature][order], 0)
        np.testing.assert_array_equal(board.co_firing_counts_fk[feature], expected)


@pytest.mark.parametrize("source", SOURCES)
def test_explained_variance_equals_the_formula_in_float64(result, dense, source):
    brute = dense(source)
    y, y_hat = brute.y_to.astype(np.float64), brute.y_hat_to.astype(np.float64)
    expected = 1 - np.square(y - y_hat).sum() / np.square(y - y.mean(0)).sum()
    assert result.dashboards[source].explained_variance == pytest.approx(expected, rel=1e-9)
    assert result.dashboards[source].mean_squared_error == pytest.approx(np.square(y - y_hat).sum(1).mean())


@pytest.mark.parametrize("source", SOURCES)
def test_streamed_top_equals_offline_top(result, dense, source):
    board, brute, contexts = result.dashboards[source], dense(source), result.contexts
    keys, peaks = local_keys(contexts), brute.peak_cf
    for feature in range(board.n_features):
        expected, seen = [], set()
        for context in np.lexsort((np.arange(len(contexts)), -peaks[:, feature])):
            value = peaks[context, feature]
            if value <= 0 or contexts.duplicate_of_c[context] != context:
                continue
            mine = brute.context_t == context
            token = brute.token_t[mine][brute.a_tf[mine, feature].argmax()]
            if keys[token] not in seen:
                seen.add(keys[token])
                expected.append((context, token - contexts.indptr_c[context], value))
        rows = rows_of(board.examples, feature, TOP)
        found = list(zip(*(getattr(board.examples, name)[rows] for name in COLUMNS), strict=True))
        assert found == expected[:N_TOP]


COLUMNS = ("context_x", "peak_position_x", "peak_value_x")


@pytest.mark.parametrize("source", SOURCES)
def test_bands_hold_only_their_interval_and_repeat_nothing(result, source):
    board = result.dashboards[source]
    examples = board.examples
    for code, (low, high) in BANDS.items():
        rows = np.flatnonzero(examples.group_x == code)
        share = examples.peak_value_x[rows].astype(np.float64) / board.maximum_f[examples.feature_x[rows]]
        assert ((share > low) & (share <= high)).all()
    where = examples.feature_x.astype(np.int64) << 32 | examples.context_x
    assert len(np.unique(where)) == len(where)
    assert {1, 2, 3} <= set(examples.group_x)


@pytest.mark.parametrize("source", SOURCES)
def test_streamed_bands_equal_offline_bands(result, dense, source):
    board, brute, contexts = result.dashboards[source], dense(source), result.contexts
    places = Places.of(whole(contexts))
    sample = BandSample(range(board.n_features))
    filled = 0
    for feature in range(0, board.n_features, 3):
        rows = np.flatnonzero((brute.a_tf[:, feature] > 0) & places.eligible_p[brute.token_t])
        tokens, values = brute.token_t[rows], brute.a_tf[rows, feature]
        lots = sample.lots(np.full(len(rows), feature), tokens, places)
        columns = (lots, tokens, brute.context_t[rows], places.key_p[tokens], values, fine_bins(values))
        drawn = sorted(zip(*(column.tolist() for column in columns), strict=True))
        top = rows_of(board.examples, feature, TOP)
        top_contexts = set(board.examples.context_x[top].tolist())
        top_tokens = contexts.indptr_c[board.examples.context_x[top]] + board.examples.peak_position_x[top]
        top_keys = set(places.key_p[top_tokens].tolist())
        could_show: dict[int, list] = {code: [] for code in BANDS}
        for number in set(columns[-1].tolist()):
            for firing in first_of_each([f for f in drawn if f[5] == number], 2, 3)[:N_KEPT]:
                share = firing[4] / float(board.maximum_f[feature])
                code = next(code for code, (low, high) in BANDS.items() if low < share <= high)
                if firing[2] not in top_contexts and firing[3] not in top_keys:
                    could_show[code].append(firing)
        could_show = {code: first_of_each(sorted(firings), 2) for code, firings in could_show.items()}
        taken: set[int] = set()
        for code in sorted(BANDS, key=lambda code: (len(could_show[code]), code)):
            chosen = first_of_each([f for f in could_show[code] if f[2] not in taken], 3)[:N_BAND]
            taken |= {f[2] for f in chosen}
            by_height = sorted(chosen, key=lambda f: (-f[4], f[2]))
            expected = [(f[2], f[1] - contexts.indptr_c[f[2]], f[4]) for f in by_height]
            shown = rows_of(board.examples, feature, code)
            assert list(zip(*(getattr(board.examples, name)[shown] for name in COLUMNS), strict=True)) == expected
            filled += len(expected)
    assert filled


@pytest.mark.parametrize("source", SOURCES)
def test_dense_features_show_every_band_in_which_they_fire(result, dense, source):
    board, brute = result.dashboards[source], dense(source)
    n_bands = 0
    for feature in np.flatnonzero(board.density_f > 0.1):
        share = brute.a_tf[:, feature] / board.maximum_f[feature]
        for code, (low, high) in BANDS.items():
            # Where the top and all other bands leave contexts over, some are shown.
            n_contexts = len(np.unique(brute.context_t[(share > low) & (share <= high)]))
            if n_contexts > N_TOP + 4 * N_BAND:
                n_bands += 1
                assert len(rows_of(board.examples, feature, code))
    assert n_bands or not board.dense


@pytest.mark.parametrize("source", SOURCES)
def test_recorded_activations_are_those_of_the_context(result, dense, source):
    examples, brute, contexts = result.dashboards[source].examples, dense(source), result.contexts
    row_of_token = np.full(len(contexts.token_ids_t), -1)
    row_of_token[brute.token_t] = np.arange(len(brute.token_t))
    for row in range(0, len(examples), 13):
        positions, values = examples.recorded(row)
        first, stop = contexts.indptr_c[examples.context_x[row]], contexts.indptr_c[examples.context_x[row] + 1]
        a = brute.a_tf[row_of_token[first + 1 : stop], examples.feature_x[row]]
        if examples.group_x[row] in (HARD_SILENT, RANDOM_SILENT):
            assert not len(positions)
            assert not a.any()
            continue
        np.testing.assert_array_equal(positions, np.flatnonzero(a) + 1)
        np.testing.assert_array_equal(values, a[a > 0].astype(np.float16))
        assert examples.peak_value_x[row] == a[examples.peak_position_x[row] - 1]
        if examples.group_x[row] == TOP:
            assert examples.peak_position_x[row] == a.argmax() + 1
        assert examples.split_x[row] == contexts.split_c[examples.context_x[row]]


@pytest.mark.parametrize("source", SOURCES)
def test_hard_silent_contexts_come_nearest_to_firing(result, dense, source):
    board, brute, contexts = result.dashboards[source], dense(source), result.contexts
    height = np.stack([brute.h_tf[brute.context_t == c].max(0) for c in range(len(contexts))])
    eligible = (contexts.duplicate_of_c == np.arange(len(contexts)))[:, None]
    silent = (brute.peak_cf == 0) & eligible
    for feature in range(board.n_features):
        order = np.lexsort((np.arange(len(contexts)), -height[:, feature]))
        expected = [c for c in order if silent[c, feature]][:N_SILENT]
        rows = rows_of(board.examples, feature, HARD_SILENT)
        assert list(board.examples.context_x[rows]) == expected
        np.testing.assert_array_equal(board.examples.peak_value_x[rows], height[expected, feature])
        drawn = board.examples.context_x[rows_of(board.examples, feature, RANDOM_SILENT)]
        assert silent[drawn, feature].all()
        assert len(drawn) == min(N_SILENT, silent[:, feature].sum() - len(expected))


@pytest.mark.parametrize("shard_tokens", [SHARD_TOKENS // 4, 3 * SHARD_TOKENS, 1 << 20])
def test_result_does_not_depend_on_the_size_of_shards(setting, result, tmp_path, shard_tokens):
    other = all_arrays(setting.run(tmp_path, shard_tokens=shard_tokens))
    for name, array in all_arrays(result).items():
        if array.dtype.kind == "f" and array.dtype.itemsize == 8:
            np.testing.assert_allclose(other[name], array, rtol=1e-9, err_msg=name)
        elif "shares" in name or "entropy" in name:
            np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_result_does_not_depend_on_the_order_of_documents(setting, result, tmp_path):
    other = replace(setting, documents=setting.documents[::-1]).run(tmp_path)
    for name, array in all_arrays(other).items():
        np.testing.assert_array_equal(array, all_arrays(result)[name], err_msg=name)


def test_logit_effects_follow_the_weights(setting, result):
    model = setting.model.module
    dictionary, board = setting.dictionaries["2-att-topk"], result.dashboards["2-att-topk"]
    gain = model.transformer.ln_f.weight
    w_o, w_u = model.transformer.h[2].attn.c_proj.weight, model.lm_head.weight
    direction = torch.nn.functional.normalize(dictionary.decoder_directions(), dim=1) @ w_o
    effect = ((direction - direction.mean(1, keepdim=True)) * gain) @ w_u.T
    effect = (effect - effect.mean(1, keepdim=True)).double().numpy()
    order = np.argsort(-effect, axis=1)
    np.testing.assert_array_equal(board.promoted_ids_fk, order[:, :20])
    np.testing.assert_array_equal(board.suppressed_ids_fk, order[:, ::-1][:, :20])
    standard = (effect - effect.mean(1, keepdims=True)) / effect.std(1, keepdims=True)
    np.testing.assert_allclose(board.logit_deviation_f, effect.std(1), rtol=1e-4)
    np.testing.assert_allclose(board.logit_skewness_f, (standard**3).mean(1), atol=1e-4)
    np.testing.assert_allclose(board.logit_kurtosis_f, (standard**4).mean(1) - 3, atol=1e-4)
    np.testing.assert_array_equal(board.logit_histogram_fb.sum(1), effect.shape[1])
    unit = torch.nn.functional.normalize(dictionary.decoder_directions(), dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    np.testing.assert_array_equal(board.decoder_neighbour_ids_fk, cosine.topk(16, dim=1).indices)


def test_progress_counts_up_to_the_end_and_says_what_it_does(setting, tmp_path):
    seen = []
    outcome = setting.run(tmp_path, progress=seen.append)
    assert list(dict.fromkeys(moment.phase for moment in seen)) == ["read", "encode", "reduce"]
    for phase in ("read", "encode", "reduce"):
        done = [moment.done for moment in seen if moment.phase == phase]
        assert done == sorted(done)
    assert [m for m in seen if m.phase == "encode"][-1].done == outcome.contexts.n_tokens
    assert outcome.measurements["shards"] == 7


def test_cancelled_pass_stops_soon_and_resumes(setting, result, tmp_path):
    seen = []
    with pytest.raises(Cancelled):
        setting.run(tmp_path, progress=seen.append, should_stop=lambda: any(m.done > 3000 for m in encoding(seen)))
    assert encoding(seen)[-1].done < 4000
    resumed = setting.run(tmp_path)
    assert resumed.measurements["resumed_shards"] == 3
    for name, array in all_arrays(resumed).items():
        np.testing.assert_array_equal(array, all_arrays(result)[name], err_msg=name)


def test_result_does_not_depend_on_the_number_of_threads(setting, result, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        other = all_arrays(setting.run(tmp_path))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    for name, array in all_arrays(result).items():
        assert other[name].tobytes() == array.tobytes(), name


def test_lower_precision_is_stated_and_close(setting, result, tmp_path):
    other = setting.run(tmp_path, precision="bfloat16")
    assert (result.provenance["precision"], other.provenance["precision"]) == ("float32", "bfloat16")
    assert other.provenance["fingerprint"] != result.provenance["fingerprint"]
    for source, board in result.dashboards.items():
        assert other.dashboards[source].l0_mean == pytest.approx(board.l0_mean, rel=0.05)
        near = np.corrcoef(board.firing_count_f, other.dashboards[source].firing_count_f)[0, 1]
        assert near > 0.98


def test_texts_have_no_bos_where_a_dictionary_was_trained_without(setting, tmp_path):
    metadata = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "prepend_bos": False}
    path = tiny_dictionary(tmp_path, "standard", source="no-bos", metadata=metadata)
    outcome = replace(setting, dictionaries={"no-bos": load_dictionary(path)}).run(tmp_path / "work", n_tokens=1000)
    assert not outcome.contexts.has_bos
    assert outcome.contexts.tokens(0)[0][0] != setting.model.bos_id
    board = outcome.dashboards["no-bos"]
    assert board.n_tokens == len(outcome.contexts.token_ids_t)
    assert 0 in board.examples.positions_s
    assert outcome.provenance["excluded"] == "padding"


def test_dictionary_that_does_not_fit_is_refused_before_anything_is_read(setting, tmp_path):
    path = tiny_dictionary(tmp_path, "topk", d_in=48, source="wide")
    with pytest.raises(DictionaryDoesNotFit, match="48 wide"):
        replace(setting, dictionaries={"wide": load_dictionary(path)}, documents=[]).run(tmp_path)
    with pytest.raises(InvalidInput, match="no dictionary"):
        replace(setting, dictionaries={}).run(tmp_path)


def test_signed_features_fire_where_they_are_positive_and_are_silent_where_they_are_zero(setting, tmp_path):
    path = tiny_dictionary(tmp_path, "topk", source="signed")
    config = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps(config | {"architecture": "abstopk"}))
    signed = replace(setting, dictionaries={"signed": load_dictionary(path)})
    outcome = signed.run(tmp_path / "work")
    board, brute = outcome.dashboards["signed"], Dense.of(signed, outcome, "signed")
    assert (brute.a_tf < 0).any()
    np.testing.assert_array_equal(board.firing_count_f, (brute.a_tf > 0).sum(0))
    np.testing.assert_array_equal(board.maximum_f, np.maximum(brute.a_tf.max(0), 0))
    assert board.l0_mean == pytest.approx((brute.a_tf != 0).sum(1).mean())
    assert (board.examples.values_s > 0).all()
    silent = board.examples.group_x >= HARD_SILENT
    rows = zip(board.examples.feature_x[silent], board.examples.context_x[silent], strict=True)
    assert not any(brute.a_tf[brute.context_t == context, feature].any() for feature, context in rows)


def test_numbers_that_are_not_finite_stop_the_pass(setting, tmp_path):
    broken = load_dictionary(tiny_dictionary(tmp_path, "standard", source="broken"))
    broken.decoder.w_dec_fo[:, 0] = torch.inf
    with pytest.raises(ActivationsNotFinite, match="broken"):
        replace(setting, dictionaries={"broken": broken}).run(tmp_path / "work")
    assert not list(tmp_path.glob("work/shards/*/*.columns"))


def test_llama_family_runs_too(tmp_path):
    outcome = make_setting(tmp_path, "llama").run(tmp_path / "work", n_tokens=1000)
    for board in outcome.dashboards.values():
        assert board.n_tokens == outcome.contexts.n_tokens
        assert (board.promoted_values_fk[:, 0] > 0).all()


def whole(contexts):
    """Return all contexts of a table as one stretch."""
    names = ("text", "document_c", "line_c", "split_c", "duplicate_of_c", "indptr_c", "token_ids_t", "starts_t")
    columns = {name: getattr(contexts, name) for name in (*names, "ends_t", "has_bos")}
    return Stretch(first_context=0, first_token=0, **columns)


def encoding(moments):
    return [moment for moment in moments if moment.phase == "encode"]


def first_of_each(firings, *columns):
    """Keep, of sorted firings, the first of each value of one column after another."""
    for column in columns:
        first: dict = {}
        for firing in firings:
            first.setdefault(firing[column], firing)
        firings = list(first.values())
    return firings


def rows_of(examples, feature, group):
    rows = np.array(examples.of_feature(feature), dtype=np.int64)
    return rows[examples.group_x[rows] == group]


def test_the_histogram_of_errors_counts_every_token(result, dense):
    for source in SOURCES:
        y, y_hat = dense(source).y_to.astype(np.float64), dense(source).y_hat_to.astype(np.float64)
        share = np.linalg.norm(y - y_hat, axis=1) / np.linalg.norm(y, axis=1)
        expected = np.bincount(np.minimum((share * 100).astype(int), 99), minlength=100)
        found = result.dashboards[source].error_histogram
        assert found.sum() == len(y)
        assert np.abs(found - expected).sum() <= 4  # at edges, digits decide


def test_the_histogram_of_l0_counts_every_token(result, dense):
    for source in SOURCES:
        found = result.dashboards[source].l0_histogram
        firing_t = (dense(source).a_tf != 0).sum(1)
        np.testing.assert_array_equal(found, np.bincount(firing_t, minlength=len(found)))


def test_encoder_neighbours_are_those_of_the_encoder(setting, result):
    for source, dictionary in setting.dictionaries.items():
        unit = torch.nn.functional.normalize(dictionary.encoder_directions().float(), dim=1)
        cosine = (unit @ unit.T).fill_diagonal_(-2)
        np.testing.assert_allclose(
            result.dashboards[source].encoder_neighbour_cosines_fk, cosine.topk(16, dim=1).values, atol=1e-6
        )
