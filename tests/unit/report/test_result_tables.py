import numpy as np
import pandas as pd
import pytest

from mmrec import statistics
from mmrec.evaluation import PROTOCOLS, gains
from mmrec.report import tables

KS = (1, 10)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    draw = statistics.resampled_means
    monkeypatch.setattr(statistics, "resampled_means", lambda gained: draw(gained, resamples=200))


def ranks_of(experiment, seed, split, by_protocol, group="main"):
    named = {"group": group, "experiment": experiment, "seed": seed, "split": split}
    return pd.DataFrame({**named, "user": range(len(by_protocol["full_all"])), **by_protocol})


@pytest.fixture
def ranks():
    """Two experiments of two seeds and three users; b is better than a."""
    parts = []
    for experiment, better in (("a", 0), ("b", 1)):
        for seed in (0, 1):
            for split in ("valid", "test"):
                full = np.array([2, 11, 4 + seed]) - better
                by_protocol = {"full_unseen": full, "full_all": full + 1, "sampled_100": np.ones(3, int)}
                parts.append(ranks_of(experiment, seed, split, by_protocol))
    return pd.concat(parts, ignore_index=True)


# --- results.csv -------------------------------------------------------------------------------------------------


def test_results_have_a_line_for_every_number(ranks):
    results = tables.results_table(ranks, KS)
    assert results.columns.tolist() == ["group", "experiment", "seed", "split", "protocol", "metric", "k", "value"]
    assert len(results) == 2 * 2 * 2 * 3 * 5
    assert not results.duplicated(results.columns[:-1].tolist()).any()


def test_results_by_hand(ranks):
    results = tables.results_table(ranks, KS)

    def value(metric, k, protocol="full_unseen"):
        chosen = results.query("experiment == 'a' and seed == 0 and split == 'test' and metric == @metric")
        chosen = chosen[(chosen["protocol"] == protocol) & (chosen["k"].isna() if k is None else chosen["k"].eq(k))]
        return chosen["value"].item()

    # ranks 2, 11, 4
    assert value("hr", 1) == 0
    assert value("hr", 10) == pytest.approx(2 / 3)
    assert value("ndcg", 10) == pytest.approx((1 / np.log2(3) + 0 + 1 / np.log2(5)) / 3)
    assert value("mrr", None) == pytest.approx((1 / 2 + 1 / 11 + 1 / 4) / 3)
    assert value("hr", 1, "sampled_100") == 1


def test_k_is_a_whole_number_or_nothing_also_after_csv(ranks, tmp_path):
    results = tables.results_table(ranks, KS)
    assert str(results["k"].dtype) == "Int64"
    assert results.loc[results["metric"] == "mrr", "k"].isna().all()
    results.to_csv(tmp_path / "results.csv", index=False)
    assert "mrr,,0." in (tmp_path / "results.csv").read_text()
    again = pd.read_csv(tmp_path / "results.csv", dtype={"k": "Int64"})
    pd.testing.assert_frame_equal(again, results, check_dtype=False, check_exact=True)


def test_groups_are_kept_apart(ranks):
    results = tables.results_table(pd.concat([ranks, ranks.assign(group="control")]), KS)
    assert results.groupby("group").size().to_dict() == {"main": 120, "control": 120}


def test_the_sampled_protocol_is_named_by_the_number_of_negatives(ranks, tmp_path):
    (tmp_path / "sequences.json").write_text('{"negatives": 10}')
    named = tables.name_sampled(ranks, tmp_path / "sequences.json")
    assert tables.protocols(named) == ["full_unseen", "full_all", "sampled_10"]
    for of in (tables.results_table, lambda ranks, ks: tables.comparisons_table(ranks, "a", ks)):
        renamed = of(ranks, KS).replace({"protocol": {"sampled_100": "sampled_10"}})
        assert "sampled_10" in set(renamed["protocol"])
        pd.testing.assert_frame_equal(of(named, KS), renamed)


# --- comparisons.csv ---------------------------------------------------------------------------------------------


def test_a_long_table_is_cut_and_says_where_the_rest_is(capsys):
    assert len(tables.first(pd.DataFrame({"a": range(20)}), "tables/results.csv")) == 20 and not capsys.readouterr().out
    assert tables.first(pd.DataFrame({"a": range(21)}), "tables/results.csv")["a"].tolist() == list(range(20))
    assert capsys.readouterr().out == "the first 20 of 21 rows; all: tables/results.csv\n"


def test_the_difference_on_validation_stands_beside_that_on_test(ranks):
    comparisons = tables.comparisons_table(ranks, "a", KS)
    results = tables.results_table(ranks, KS)
    both = pd.concat([results.assign(split="test"), results.assign(split="valid", value=2 * results["value"])])
    found = tables.beside_validation(comparisons, both)
    assert found["validation"].tolist() == pytest.approx((2 * comparisons["difference"]).tolist())
    pd.testing.assert_frame_equal(found.drop(columns="validation"), comparisons)
    assert tables.beside_validation(comparisons, results[results["split"] == "test"])["validation"].isna().all()


def test_columns_of_comparisons(ranks):
    table = tables.comparisons_table(ranks, "a", KS)
    assert table.columns.tolist() == [
        *["group", "experiment", "baseline", "protocol", "metric", "k", "difference", "ci_low", "ci_high"],
        *["effect", "smallest", "p_value", "p_holm", "users", "seeds"],
    ]
    assert str(table["k"].dtype) == "Int64"
    assert len(table) == 3 * 5
    assert (table["users"] == 3).all() and (table["seeds"] == 2).all()
    assert (table["baseline"] == "a").all() and (table["experiment"] == "b").all()


def test_a_difference_by_hand(ranks):
    table = tables.comparisons_table(ranks, "a", KS).set_index(["protocol", "metric", "k"])
    # hr@10, both seeds: user 1 moves from 11 to 10. hr@1: user 0 moves from 2 to 1.
    assert table.loc[("full_unseen", "hr", 10), "difference"] == pytest.approx(1 / 3)
    assert table.loc[("full_unseen", "hr", 1), "difference"] == pytest.approx(1 / 3)
    assert table.loc[("sampled_100", "hr", 10), "difference"] == 0


def test_only_test_users_are_compared(ranks):
    spoilt = ranks.copy()
    spoilt.loc[spoilt["split"] == "valid", list(PROTOCOLS)] = 999
    pd.testing.assert_frame_equal(tables.comparisons_table(spoilt, "a", KS), tables.comparisons_table(ranks, "a", KS))


def test_users_are_paired_by_name_and_not_by_row(ranks):
    shuffled = ranks.sample(frac=1, random_state=0)
    found = tables.comparisons_table(shuffled, "a", KS)
    pd.testing.assert_frame_equal(found, tables.comparisons_table(ranks, "a", KS))


def test_ranks_stand_in_order_of_seed_and_user(ranks):
    matrices = tables.rank_matrices(ranks.sample(frac=1, random_state=1))
    assert matrices["a"]["full_unseen"].to_numpy().tolist() == [[2, 11, 4], [2, 11, 5]]


def shifted(ranks, experiment, by, group="main"):
    """Another experiment: b with all ranks moved."""
    more = ranks[ranks["experiment"] == "b"].assign(experiment=experiment, group=group)
    more[list(PROTOCOLS)] += by
    return more


def test_each_experiment_is_compared_with_its_own_control(ranks):
    three = pd.concat([ranks, shifted(ranks, "c", 1)])
    table = tables.comparisons_table(three, {"b": "a", "c": "b"}, KS)
    assert table.drop_duplicates("experiment")["baseline"].tolist() == ["a", "b"]
    alone = tables.comparisons_table(three[three["experiment"] != "a"], "b", KS)
    of_c = table[table["experiment"] == "c"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_c.drop(columns="p_holm"), alone.drop(columns="p_holm"))
    assert "a" not in set(table["experiment"])  # it has no control


def test_holm_is_taken_over_the_experiments_of_one_group_and_measure(ranks):
    four = pd.concat(
        [ranks, shifted(ranks, "c", 1), shifted(ranks, "d", 2, "control"), shifted(ranks, "e", 0, "control")]
    )
    table = tables.comparisons_table(four, "a", KS)
    assert len(table) == 4 * 15
    families = table.groupby(["group", "protocol", "metric", "k"], dropna=False)
    assert len(families) == 2 * 15
    for (group, *_), family in families:
        assert family["experiment"].tolist() == {"main": ["b", "c"], "control": ["d", "e"]}[group]
        assert family["p_holm"].to_numpy() == pytest.approx(statistics.holm(family["p_value"].to_numpy()))


def test_a_baseline_alone_gives_no_comparisons(ranks):
    alone = tables.comparisons_table(ranks[ranks["experiment"] == "a"], "a", KS)
    assert len(alone) == 0
    assert "p_holm" in alone


def test_seeds_with_ranks_of_different_users_are_refused(ranks):
    hole = ranks.drop(ranks.query("experiment == 'b' and seed == 1 and user == 2").index)
    with pytest.raises(ValueError, match="seeds of 'b' have ranks of different users"):
        tables.comparisons_table(hole, "a", KS)


def test_experiments_with_ranks_of_different_users_are_refused(ranks):
    other = ranks.copy()
    other.loc[(other["experiment"] == "b") & (other["user"] == 2), "user"] = 7
    with pytest.raises(ValueError, match="'b' and its control 'a' have ranks of different users"):
        tables.comparisons_table(other, "a", KS)


@pytest.mark.parametrize(("controls", "unknown"), [("z", "z"), ({"b": "z"}, "z"), ({"y": "a"}, "y")])
def test_an_unknown_experiment_is_refused_by_name(ranks, controls, unknown):
    with pytest.raises(ValueError, match=rf"no ranks of {unknown}; there are those of \['a', 'b'\]"):
        tables.comparisons_table(ranks, controls, KS)


# --- for reading -------------------------------------------------------------------------------------------------


def results_of(values, metric="ndcg", k=10):
    rows = [("main", "a", seed, "test", "full_unseen", metric, k, value) for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=tables.RESULT_COLUMNS).astype({"k": "Int64"})


def test_the_summary_shows_mean_and_half_width_over_seeds():
    # mean 0.2, standard deviation 0.1, standard error 0.0577, t(0.975, 2) = 4.3027
    results = pd.concat([results_of([0.1, 0.2, 0.3]), results_of([0.5], "mrr", None)])
    shown = tables.summary(results, "test", "full_unseen", [("ndcg", 10), ("mrr", None)])
    assert shown.columns.tolist() == ["ndcg@10", "mrr"]
    assert shown.loc["a"].tolist() == ["0.2000 ± 0.2484", "0.5000"]


def test_the_summary_keeps_splits_protocols_and_ks_apart(ranks):
    results = tables.results_table(ranks, KS)
    shown = tables.summary(results, "valid", "full_all", [("hr", 1), ("hr", 10)])
    # valid, full_all: a has ranks 3, 12, 5 and 3, 12, 6; b has 2, 11, 4 and 2, 11, 5
    assert shown["hr@1"].tolist() == ["0.0000 ± 0.0000"] * 2
    assert shown["hr@10"].tolist() == ["0.6667 ± 0.0000"] * 2


def test_by_experiment_gives_the_seeds_own_values(ranks):
    table = tables.by_experiment(tables.results_table(ranks, KS), "test", "full_unseen", "mrr", None)
    assert table["experiment"].tolist() == ["a", "b"]
    first = gains(np.array([[2, 11, 4], [2, 11, 5]]), "mrr").mean(1)
    assert table["values"][0] == pytest.approx(first.tolist())
    assert table["mean"][0] == pytest.approx(first.mean())
    assert table["low"][0] < first.min() and table["high"][0] > first.max()


def test_by_experiment_keeps_the_groups(ranks):
    both = pd.concat([ranks, ranks[ranks["experiment"] == "b"].assign(group="control", experiment="c")])
    table = tables.by_experiment(tables.results_table(both, KS), "test", "full_unseen", "mrr", None)
    assert table[["group", "experiment"]].to_numpy().tolist() == [["main", "a"], ["main", "b"], ["control", "c"]]


def test_agreement_is_the_mean_over_a_training_by_pair_of_tasks():
    curves = pd.DataFrame(
        {
            "seed": [0, 0, 1],
            "epoch": [1, 2, 1],
            "total": [9.0, 8.0, 9.0],
            "cos_id_image": [0.2, -0.4, 0.5],
            "conflict_id_image": [0.0, 1.0, 0.25],
            "cos_image_text": [0.1, 0.3, 0.0],
            "conflict_image_text": [0.5, 0.0, 0.5],
        }
    )
    table = tables.gradient_agreement_table(curves)
    assert table.columns.tolist() == ["seed", "tasks", "cosine", "conflicting"]
    assert table["tasks"].tolist() == ["id, image", "image, text"] * 2 and table["seed"].tolist() == [0, 0, 1, 1]
    assert table["cosine"].tolist() == pytest.approx([-0.1, 0.2, 0.5, 0.0])
    assert table["conflicting"].tolist() == pytest.approx([0.5, 0.25, 0.25, 0.5])


def test_ranks_of_several_groups_are_gathered_with_their_name(ranks, tmp_path):
    for group in ("main", "control"):
        (tmp_path / group).mkdir()
        ranks.drop(columns="group").to_parquet(tmp_path / group / "ranks.parquet")
    found = tables.gather_ranks({group: tmp_path / group for group in ("main", "control")})
    assert found["group"].value_counts().to_dict() == {"main": len(ranks), "control": len(ranks)}
    pd.testing.assert_frame_equal(found[found["group"] == "main"], ranks, check_like=True)


def test_a_missing_group_is_named_with_the_notebook_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no runs of group 'loss' in .*loss: run notebook 4 first"):
        tables.gather_ranks({"loss": tmp_path / "loss"})


def test_published_numbers_stand_beside_ours(ranks):
    rows = [("A", "a", "full_unseen", "hr", 10, 0.5, "paper"), ("Z", "z", "full_unseen", "hr", 10, 0.1, "paper")]
    published = pd.DataFrame(rows, columns=["model", "experiment", "protocol", "metric", "k", "published", "source"])
    table = tables.published_table(published, tables.results_table(ranks, KS))
    assert table.columns.tolist() == [
        *["model", "protocol", "metric", "k", "published", "source"],
        *["ours", "ci_low", "ci_high", "ratio", "seeds", "experiment"],
    ]
    row, without = table.itertuples()
    assert without.model == "Z" and pd.isna(without.ours) and pd.isna(without.ratio)  # nothing of ours repeats z
    # test ranks 2, 11, 4 and 2, 11, 5: two of three within ten, with both seeds
    assert (row.ours, row.ci_low, row.ci_high, row.seeds) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 2))
    assert row.ratio == pytest.approx(4 / 3)


def verdict_of(low, high, k=10):
    row = {"experiment": "b", "baseline": "a", "protocol": "full_unseen", "metric": "ndcg", "k": k}
    row |= {"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "p_value": 0.01, "p_holm": 0.02}
    return tables.verdict(next(pd.DataFrame([row | {"users": 9, "seeds": 3}]).itertuples()))


def test_a_verdict_names_the_side_of_0():
    assert verdict_of(0.1, 0.3) == (
        "b - a, full_unseen ndcg@10: +0.2000, 95 % interval [+0.1000, +0.3000] above 0, p_holm = 0.0200 "
        "(9 users, 3 seeds)"
    )
    assert "below 0" in verdict_of(-0.3, -0.1)
    assert "holds 0" in verdict_of(-0.1, 0.1)
    assert "full_unseen ndcg:" in verdict_of(0.1, 0.3, k=pd.NA)


# --- parts of the users ------------------------------------------------------------------------------------------


def test_users_are_cut_by_popularity_and_by_length(make_sequences):
    # In training (all but the last two): 1 three times, 2 twice, 3 once; the rest never.
    sequences = make_sequences([[1, 2, 3, 4, 1], [1, 2, 5, 2], [1, 6, 3], [2, 1]], 8)
    slices = tables.user_slices(sequences)
    popular, length = slices["popularity of the answer"], slices["length of the history"]
    assert popular.index.tolist() == length.index.tolist() == [0, 1, 2]
    assert sequences.item_counts()[:3].tolist() == [4, 3, 1]
    assert popular.tolist() == ["4", "2 to 3", "1"]
    assert length.tolist() == ["4", "3", "2"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 5, 0, 5], ["0", "5", "0", "5"]),
        ([1, 1, 1, 1, 9], ["1", "1", "1", "1", "2 to 9"]),
        ([1, 2, 3, 4, 5, 6], ["1 to 2", "1 to 2", "3 to 4", "3 to 4", "5 to 6", "5 to 6"]),
    ],
)
def test_equal_values_stay_together(values, labels):
    cut = tables._cut(np.array(values), np.arange(len(values)), 3)
    assert cut.tolist() == labels


def test_unchosen_items_are_the_first_part():
    cut = tables._cut(np.array([3, 0, 7]), np.arange(3), 2)
    assert cut.cat.categories.tolist() == ["0", "3", "4 to 7"] and cut.tolist() == ["3", "0", "4 to 7"]


def test_cold_items_are_compared_by_the_share_of_items_below_them(ranks):
    table = tables.cold_table(ranks, "a", pd.Index([1]), 101).set_index("experiment")  # ranks of user 1: 11 and 10
    assert table.loc["b", ["auc", "baseline", "difference", "users"]].tolist() == pytest.approx([0.91, 0.90, 0.01, 1])
    assert tables.cold_table(ranks, "a", pd.Index([]), 101).empty


def test_parts_are_compared_among_their_own_users(ranks):
    labels = pd.Series(pd.Categorical(["few", "many", "few"], ["few", "none", "many"], ordered=True), index=[0, 1, 2])
    table = tables.slices_table(ranks, "a", {"history": labels}).set_index("label")
    assert table.index.tolist() == ["few", "many"]  # a part without users is left out
    assert table["users"].tolist() == [2, 1] and (table["experiment"] == "b").all()
    # Ranks of user 1: 11 and 10.
    assert table["baseline"]["many"] == 0 and table["ndcg_10"]["many"] == pytest.approx(1 / np.log2(11))
    assert table["difference"].tolist() == pytest.approx((table["ndcg_10"] - table["baseline"]).tolist())
    few = np.mean([gains(np.array([1, 3 + seed]), "ndcg", 10).mean() for seed in (0, 1)])
    assert table["ndcg_10"]["few"] == pytest.approx(few)
