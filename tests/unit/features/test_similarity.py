from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmrec.data.sequences import Sequences
from mmrec.features import similarity
from mmrec.features.store import Features


def features(rows: list[list[float]], missing: tuple[int, ...] = ()) -> Features:
    matrix = torch.tensor([[0.0] * len(rows[0]), *rows])
    mask = torch.ones(len(matrix), dtype=torch.bool)
    mask[[0, *missing]] = False
    matrix[~mask] = 0
    return Features(matrix, mask, {})


def sequences_of(*users: list[int], n_items: int) -> Sequences:
    ends = np.cumsum([0, *map(len, users)])
    nothing = torch.full((len(users),), -1)
    return Sequences(
        items=torch.tensor(sum(users, [])),
        offsets=torch.tensor(ends),
        train_end=torch.tensor(ends[1:]),
        valid=nothing,
        test=nothing,
        negatives=torch.ones(len(users), 1, dtype=torch.long),
        n_items=n_items,
    )


def test_neighbours_begin_with_the_item_itself_and_leave_out_items_without_the_modality():
    found = features([[1, 0.1], [1, 0.2], [-1, 0], [1, 0.15], [-1, -0.1]], missing=(4,))
    near = similarity.neighbours(found, [1, 3], count=2)
    assert near[:, 0].tolist() == [1, 3]
    assert near[0, 1] == 2 and near[1, 1] == 5
    assert 4 not in near


def test_example_items_have_every_modality():
    one, other = features([[1.0], [2], [3], [4]], missing=(2,)), features([[1.0], [2], [3], [4]], missing=(3,))
    assert set(similarity.example_items({"a": one, "b": other}, "a", count=2)) <= {1, 4}


def test_examples_have_the_named_modality_if_no_item_has_all():
    one, other = features([[1.0], [2], [3]], missing=(1, 2)), features([[1.0], [2], [3]], missing=(3,))
    assert similarity.example_items({"a": one, "b": other}, "a", count=2) == [3]
    assert set(similarity.example_items({"a": one, "b": other}, "b", count=2)) <= {1, 2}


def test_neighbours_are_at_most_the_items_with_the_modality():
    assert similarity.neighbours(features([[1.0], [2], [3]], missing=(3,)), [1], count=3).tolist() == [[1, 2]]


def test_consecutive_choices_of_one_kind_are_above_chance_and_random_ones_are_not():
    generator = np.random.default_rng(0)
    kind = np.repeat([0, 1], 20)
    look = features((kind[:, None] * 2.0 - 1 + generator.normal(0, 0.1, (40, 3))).tolist())
    loyal = [(20 * (user % 2) + generator.permutation(20) + 1).tolist() for user in range(30)]
    mixed = [(generator.permutation(40)[:20] + 1).tolist() for _ in range(30)]
    for users, above in ((loyal, True), (mixed, False)):
        (row,) = similarity.consecutive_similarity(sequences_of(*users, n_items=40), {"image": look}).itertuples()
        assert (row.consecutive > row.chance_high) == above
        assert row.excess == pytest.approx(row.consecutive - row.chance)


def test_pairs_do_not_cross_users_and_need_both_items_to_have_the_modality():
    found = features([[1.0], [2], [3], [4]], missing=(3,))
    (row,) = similarity.consecutive_similarity(sequences_of([1, 2, 3], [4, 1], n_items=4), {"x": found}).itertuples()
    assert row.pairs == 2  # 1-2 and 4-1; not 2-3 (3 lacks it), not 3-4 (another user)


def test_many_pairs_are_sampled(monkeypatch):
    look = features([[float(item % 2), 1.0 - item % 2] for item in range(1, 41)])
    users = [[item, item + 2, item + 4, item + 6] for item in range(1, 35)]
    whole, part = [], []
    for table, limit in ((whole, 10**6), (part, 20)):
        monkeypatch.setattr(similarity, "PAIRS", limit)
        table += similarity.consecutive_similarity(sequences_of(*users, n_items=40), {"image": look}).itertuples()
    assert (whole[0].pairs, part[0].pairs) == (102, 20)
    assert [part[0].consecutive, whole[0].consecutive] == pytest.approx([1, 1])


# --- alignment ---------------------------------------------------------------------------------------------------


def pair_of(make, mix: float):
    """Pictures, and texts that are a linear map of them with a share of `mix`, of 200 items; every fifth lacks one."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(201, 6, generator=generator)
    text = mix * image @ torch.randn(6, 4, generator=generator) + (1 - mix) * torch.randn(201, 4, generator=generator)
    mask = torch.arange(201) % 5 != 0
    everything = torch.arange(201) > 0
    return {"image": make(image, mask), "text": make(text, everything)}


def test_texts_that_are_a_map_of_pictures_find_them_and_others_do_not():
    def make(matrix, mask):
        return Features(matrix.where(mask[:, None], 0), mask, {})

    told, untold = (similarity.alignment(pair_of(make, mix)) for mix in (1.0, 0.0))
    assert told["given"].tolist() == ["text", "image"] and told["asked"].tolist() == [80, 80]
    assert told["chance"].tolist() == [0.125, 0.125]
    assert (told["recall"] > 0.7).all() and (untold["recall"] < 0.3).all()


def test_alignment_needs_both_modalities():
    mask = torch.arange(3) > 0
    assert similarity.alignment({"text": Features(torch.zeros(3, 2), mask, {})}).empty


def test_a_portrait_counts_rare_answers_of_test_users():
    sequences = sequences_of([1, 2, 3], [1, 2, 2], [1, 2, 1], n_items=3)
    sequences = replace(sequences, test=torch.tensor([2, -1, 8]))
    near = pd.DataFrame({"modality": ["text"], "excess": [0.25]})
    found = similarity.portrait(sequences, near).iloc[0]
    assert (found["users"], found["items"], found["interactions"], found["text"]) == (3, 3, 9, 0.25)
    chosen = sequences.item_counts()
    answers = [3, 1]
    assert found["rare"] == np.mean([chosen[item - 1] <= similarity.RARE for item in answers])
    often = replace(
        sequences, items=sequences.items.repeat(4), offsets=4 * sequences.offsets, train_end=4 * sequences.train_end
    )
    assert similarity.portrait(often, near).iloc[0]["rare"] == 0.5
