import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import GPT, GPTConfig, KVCache
from gptlib.cache import LayerCache

IDS = torch.randint(23, (5, 16), generator=torch.Generator().manual_seed(1))


def chunked(model: GPT, ids: torch.Tensor, cuts: list[int], **options) -> torch.Tensor:
    cache = KVCache(model.config, len(ids), **options)
    pieces = []
    for begin, end in zip([0, *cuts], [*cuts, ids.size(1)], strict=True):
        pieces.append(model(ids[:, begin:end], cache=cache)[0])
        assert cache.length == end
    return torch.cat(pieces, dim=1)


def test_read_a_token_at_a_time_the_logits_are_the_same(variant, random_model) -> None:
    model = random_model(variant)
    torch.testing.assert_close(chunked(model, IDS, list(range(1, 16))), model(IDS)[0], atol=1e-4, rtol=1e-4)


def test_read_in_any_chunks_the_logits_are_the_same(variant, random_model) -> None:
    model = random_model(variant).double()
    whole = model(IDS)[0]

    @settings(max_examples=6, deadline=None)
    @given(cuts=st.sets(st.integers(1, 15)).map(sorted), room=st.integers(0, 9))
    def in_chunks(cuts: list[int], room: int) -> None:
        options = {"dtype": torch.float64, "capacity": 16 + room}
        torch.testing.assert_close(chunked(model, IDS, cuts, **options), whole, atol=1e-9, rtol=1e-9)

    in_chunks()


@pytest.mark.parametrize("position", ["rotary", "alibi", "none"])
@pytest.mark.parametrize("window", [None, 3])
def test_beyond_n_positions_the_logits_are_the_same(position, window, random_model) -> None:
    """The reference is one pass over the whole text, with a window one under the banded mask."""
    model = random_model(
        GPTConfig(23, 6, 24, n_layer=2, n_head=6, n_kv_head=2, position=position, window=window)
    ).double()
    capacity = 16 if window is None else None  # a window's memory is never full
    options = {"dtype": torch.float64, "capacity": capacity}
    for cuts in ([5, 6, 7, 11], [1, 2, 14], list(range(1, 16))):
        torch.testing.assert_close(chunked(model, IDS, cuts, **options), model(IDS)[0])


@pytest.mark.parametrize("capacity", [None, 4, 60])
@pytest.mark.parametrize("window", [1, 3, 5, 17])
def test_a_window_keeps_what_it_needs_and_no_more(capacity, window, random_model) -> None:
    config = GPTConfig(23, 17, 24, n_layer=2, n_head=6, n_kv_head=2, position="rotary", window=window)
    model, cache = random_model(config), KVCache(config, 5, capacity=capacity)
    slots = min(capacity or 17, window - 1)
    stored = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    before = [part.data_ptr() for part in stored]
    assert cache.n_bytes == sum(p.untyped_storage().nbytes() for p in stored) == 2 * 2 * 5 * 2 * slots * 4 * 4
    fits = 40 if slots == window - 1 else slots
    for t in range(fits):
        model(IDS[:, t % 16 : t % 16 + 1], cache=cache)
        assert all(layer.held == min(t + 1, slots) for layer in cache.layers)
    assert cache.length == fits
    assert [part.data_ptr() for layer in cache.layers for part in (layer.keys, layer.values)] == before
    if slots < window - 1:
        with pytest.raises(ValueError, match="holds 4 positions and 5 are needed; make it with a larger capacity"):
            model(IDS[:, :1], cache=cache)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_positions_that_end_are_refused_and_not_cropped(position, random_model) -> None:
    model = random_model(GPTConfig(23, 6, 24, n_layer=2, n_head=6, position=position))
    cache = KVCache(model.config, 5, capacity=16)
    model(IDS[:, :6], cache=cache)
    with pytest.raises(ValueError, match=rf"7 tokens, and {position} positions end at n_positions=6"):
        model(IDS[:, 6:7], cache=cache)
    assert cache.length == 6


def test_recording_with_a_cache_shows_all_keys(variant, random_model) -> None:
    from gptlib import record

    model = random_model(variant)
    cache = KVCache(variant, 5)
    model(IDS[:, :4], cache=cache)
    with record(model) as run:
        logits, _ = model(IDS[:, 4:7], cache=cache)
    before = 4 if variant.window is None else min(4, variant.window - 1)  # what the cache still holds
    assert run["blocks.1.attention.weights"].shape == (5, 6, 3, before + 3)
    assert run["blocks.1.attention.k"].shape == (5, variant.kv_heads, 3, 4)
    torch.testing.assert_close(logits, model(IDS[:, :7])[0][:, 4:], atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused_and_changes_nothing(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6, position="rotary"))
    cache = KVCache(model.config, 5, capacity=7)
    model(IDS[:, :6], cache=cache)
    with pytest.raises(ValueError, match="holds 7 positions and 8 are needed; make it with a larger capacity"):
        model(IDS[:, 6:8], cache=cache)
    assert [layer.length for layer in cache.layers] == [6, 6]
    torch.testing.assert_close(model(IDS[:, 6:7], cache=cache)[0][:, -1], model(IDS[:, :7])[0][:, -1])


@pytest.mark.parametrize("rows", [1, 3])
def test_another_number_of_rows_is_not_broadcast(rows, random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    cache = KVCache(model.config, 5)
    with pytest.raises(ValueError, match=f"batches of 5 and this one has {rows} rows; make it with batch_size={rows}"):
        model(IDS[:rows], cache=cache)
    assert cache.length == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_memory_is_counted_exactly(dtype) -> None:
    config = GPTConfig(23, 17, 24, n_layer=3, n_head=6, n_kv_head=2)
    for capacity, positions in ((None, 17), (11, 11)):
        cache = KVCache(config, 5, capacity=capacity, dtype=dtype)
        stored = sum(part.untyped_storage().nbytes() for layer in cache.layers for part in (layer.keys, layer.values))
        assert cache.n_bytes == stored == 3 * 2 * 5 * 2 * positions * 4 * dtype.itemsize
        assert cache.length == 0


def test_appended_keys_come_back_in_order() -> None:
    layer = LayerCache((2, 3, 7, 4), dtype=torch.float32, device="cpu")
    k, v = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    layer.append(k[:, :, :2], v[:, :, :2])
    keys, values = layer.append(k[:, :, 2:], v[:, :, 2:])
    assert torch.equal(keys, k)
    assert torch.equal(values, v)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_of_the_model_is_kept(dtype, random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6, position="rotary")).to(dtype)
    cache = KVCache(model.config, 5, dtype=dtype)
    assert model(IDS[:, :3], cache=cache)[0].dtype == dtype


# Rows of unequal length


def test_rows_of_unequal_length_get_the_logits_they_get_alone(variant, random_model) -> None:
    model = random_model(variant).double()

    @settings(max_examples=5, deadline=None)
    @given(
        padding=st.lists(st.integers(0, 15), min_size=5, max_size=5),
        cuts=st.sets(st.integers(1, 15)).map(sorted),
        fill=st.integers(0, 22),
    )
    def in_chunks(padding: list[int], cuts: list[int], fill: int) -> None:
        ids = torch.where(torch.arange(16) < torch.tensor(padding)[:, None], fill, IDS)
        cache = KVCache(model.config, 5, dtype=torch.float64)
        pieces = []
        for begin, end in zip([0, *cuts], [*cuts, 16], strict=True):
            told = {} if begin else {"padding": torch.tensor(padding)}  # with the first chunk, and never again
            pieces.append(model(ids[:, begin:end], cache=cache, **told)[0])
        for row, start, together in zip(IDS, padding, torch.cat(pieces, dim=1), strict=True):
            assert torch.isfinite(together).all()
            torch.testing.assert_close(together[start:], model(row[None, start:])[0][0], atol=1e-9, rtol=1e-9)

    in_chunks()


def test_padding_belongs_to_the_first_chunk_and_is_remembered(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    padding = torch.tensor([0, 1, 0, 2, 0])
    cache = KVCache(model.config, 5)
    model(IDS[:, :3], cache=cache, padding=padding)
    assert torch.equal(cache.padding, padding)
    with pytest.raises(ValueError, match="a cache that has read 3 positions; give it with the first chunk alone"):
        model(IDS[:, 3:4], cache=cache, padding=padding)
    assert cache.length == 3
    assert torch.equal(padding, torch.tensor([0, 1, 0, 2, 0]))
    with pytest.raises(ValueError, match="18 tokens, and learned positions end"):
        model(IDS.repeat(1, 2)[:, :18], cache=(empty := KVCache(model.config, 5)), padding=padding)
    torch.testing.assert_close(model(IDS, cache=empty)[0], model(IDS)[0])  # what failed is forgotten


# Rows chosen anew


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=7), window=st.sampled_from([None, 4]))
def test_chosen_rows_go_on_as_if_they_had_been_read_alone(rows, window) -> None:
    torch.manual_seed(0)
    shape = {"n_kv_head": 2, "position": "rotary", "window": window}
    model = GPT(GPTConfig(23, 17, 24, n_layer=2, n_head=6, **shape)).double().eval()
    padding = torch.tensor([0, 2, 0, 1, 5])
    cache = KVCache(model.config, 5, dtype=torch.float64)
    model(IDS[:, :6], cache=cache, padding=padding)
    cache.select(torch.tensor(rows))
    logits, _ = model(IDS[rows, 6:9], cache=cache)
    assert cache.length == 9
    whole, _ = model(IDS[:, :9], padding=padding)
    torch.testing.assert_close(logits, whole[rows, 6:])


def test_a_cache_for_another_model_is_refused_and_not_broadcast(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6, n_kv_head=1))
    for config, has in (
        (GPTConfig(23, 17, 24, n_layer=2, n_head=6, n_kv_head=3), "3 heads of 4"),
        (GPTConfig(23, 17, 48, n_layer=2, n_head=6, n_kv_head=1), "1 heads of 8"),
    ):
        cache = KVCache(config, 5)
        with pytest.raises(ValueError, match=f"made for {has} features and these keys have 1 of 4; make it from"):
            model(IDS, cache=cache)
        assert cache.length == 0
    for wrong in ({"batch_size": 0}, {"batch_size": 5, "capacity": 0}):
        with pytest.raises(ValueError, match="must both be at least 1"):
            KVCache(model.config, **wrong)
