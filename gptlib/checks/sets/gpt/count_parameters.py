"""How many parameters a GPT-2 of any shape has, to the last one."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, whole


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(V: int, P: int, C: int, L: int, H: int, tied: bool, note: str = "") -> Case:
        shape = {"vocab_size": V, "n_positions": P, "n_embd": C, "n_layer": L, "n_head": H}
        return Case({**shape, "tied": tied}, note)

    a, b, c, d = sizes(rng, 4, 5, 60)
    return [
        case(11, 8, 6, 1, 3, True),
        case(11, 8, 6, 2, 2, False),
        case(7, 5, 4, 3, 1, True),
        case(50_257, 1024, 768, 12, 12, True, "GPT-2, small"),
        case(50_257, 1024, 768, 12, 12, False, "the same with an output map of its own"),
        case(a, b, 4 * c, d, 4, True),
        case(b, a, 3 * d, c, 3, False),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(vocab_size: Any, n_positions: Any, n_embd: Any, n_layer: Any, n_head: Any, tied: Any) -> Any:
        return answer(vocab_size, n_positions, n_embd, n_layer, n_head, tied)

    def with_more(name: str) -> Any:
        more: dict[str, Any] = dict(given)
        more[name] += 1
        return whole(call(**more))

    found = {"total": whole(call(**given))}
    found |= {"longer.total": with_more("n_positions"), "wider.total": with_more("vocab_size")}
    deeper: dict[str, Any] = dict(given)
    for step in ("deeper", "deeper still"):
        deeper["n_layer"] += 1
        found[f"{step}.total"] = whole(call(**deeper))
    return found


def _build(
    *,
    tokens: str = "by tied",
    positions: str = "learned",
    linear_biases: str = "all",
    norms: int = 2,
    shifts: bool = True,
    final_norm: bool = True,
    heads: str = "share the width",
    inner: int = 4,
    head_bias: str = "none",
) -> Answer:
    def count_parameters(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
        V, C, wide = vocab_size, n_embd, inner * n_embd
        attention = 4 * C * C * (n_head if heads == "each full width" else 1)
        biases = {
            "all": 4 * C + wide + C,
            "none": 0,
            "no q, k, v": C + wide + C,
            "attention alone": 4 * C,
            "second as wide as its input": 4 * C + wide + wide,
        }
        norm = 2 * C if shifts else C
        block = attention + 2 * C * wide + biases[linear_biases] + norms * norm
        maps = {"by tied": 1 if tied else 2, "once": 1, "twice": 2, "other way round": 2 if tied else 1, "none": 0}
        embeddings = V * C * maps[tokens] + (n_positions * C if positions == "learned" else 0)
        return (
            embeddings
            + n_layer * block
            + norm * final_norm
            + (V if head_bias == "always" or (head_bias == "untied" and not tied) else 0)
        )

    return count_parameters


def _rule_of_thumb(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
    return 12 * n_layer * n_embd**2


def _rule_and_embeddings(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
    return 12 * n_layer * n_embd**2 + (vocab_size * (1 if tied else 2) + n_positions) * n_embd


def _rule_and_tokens(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
    return 12 * n_layer * n_embd**2 + vocab_size * (1 if tied else 2) * n_embd


def _by_shapes(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
    V, P, C = vocab_size, n_positions, n_embd
    block = [(C,), (C,), (3 * C, C), (3 * C,), (C, C), (C,), (C,), (C,), (4 * C, C), (4 * C,), (C, 4 * C), (C,)]
    shapes: list[tuple[int, ...]] = [(V, C), (P, C), *(block * n_layer), (C,), (C,)]
    return sum(math.prod(shape) for shape in (shapes if tied else [*shapes, (V, C)]))


def _by_modules(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
    nn, C = torch.nn, n_embd
    with torch.device("meta"):
        block = nn.ModuleList(
            [
                nn.LayerNorm(C),
                nn.MultiheadAttention(C, n_head),
                nn.LayerNorm(C),
                nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C)),
            ]
        )
        rest = nn.ModuleList([nn.Embedding(vocab_size, C), nn.Embedding(n_positions, C), nn.LayerNorm(C)])
        head = nn.ModuleList([] if tied else [nn.Linear(C, vocab_size, bias=False)])
    counts = [sum(p.numel() for p in part.parameters()) for part in (block, rest, head)]
    return n_layer * counts[0] + counts[1] + counts[2]


def _by_formula(vocab_size: int, n_positions: int, n_embd: int, n_layer: int, n_head: int, tied: bool) -> int:
    maps = vocab_size if tied else 2 * vocab_size
    return n_embd * (maps + n_positions + 2 + n_layer * (12 * n_embd + 13))


def _a_position_costs_its_vector(case: Case, got: dict[str, Any]) -> bool:
    return int(got["longer.total"] - got["total"]) == case.given["n_embd"]


def _a_token_costs_its_vectors(case: Case, got: dict[str, Any]) -> bool:
    width = case.given["n_embd"]
    assert isinstance(width, int)
    return int(got["wider.total"] - got["total"]) == (width if case.given["tied"] else 2 * width)


def _a_block_costs_its_size(case: Case, got: dict[str, Any]) -> bool:
    width = case.given["n_embd"]
    assert isinstance(width, int)
    steps = {int(got["deeper.total"] - got["total"]), int(got["deeper still.total"] - got["deeper.total"])}
    return steps == {12 * width**2 + 13 * width}


EXERCISE = Exercise(
    id="gpt.count_parameters",
    title="Count every parameter",
    minutes=12,
    points=4,
    signature="count_parameters(vocab_size, n_positions, n_embd, n_layer, n_head, tied)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_shapes, _by_modules, _by_formula),
    misconceptions=(
        Misconception(
            "12 · n_layer · n_embd²",
            "12 · n_layer · n_embd² counts the matrices of the blocks and nothing else. Embeddings, biases and norms "
            "are parameters too; in GPT-2 small they are 39 million.",
            _rule_of_thumb,
        ),
        Misconception(
            "matrices and embeddings alone",
            "You count the matrices and the embeddings. Every linear map of GPT-2 has a bias, and every norm a scale "
            "and a shift: 13 · n_embd more in a block, and 2 · n_embd at the end.",
            _rule_and_embeddings,
        ),
        Misconception(
            "matrices and tokens alone",
            "You count the matrices and the embeddings of tokens. There is an embedding of positions too, every linear "
            "map has a bias, and every norm a scale and a shift.",
            _rule_and_tokens,
        ),
        Misconception(
            "a tied matrix counted twice",
            "You count the output map as well when it is tied. It is then the token embedding itself, one matrix with "
            "two uses, and counts once.",
            changes={"tokens": "twice"},
        ),
        Misconception(
            "an untied output map forgotten",
            "When tied is False, the output map is a matrix of its own: vocab_size · n_embd more.",
            changes={"tokens": "once"},
        ),
        Misconception(
            "tied the wrong way round",
            "You add the second matrix when tied is True. Tied means that there is only one.",
            changes={"tokens": "other way round"},
        ),
        Misconception(
            "no position embeddings",
            "You leave out the position embeddings: GPT-2 learns a vector of n_embd numbers for each of its "
            "n_positions.",
            changes={"positions": "none"},
        ),
        Misconception(
            "no biases",
            "You leave out the biases of the linear maps. A map from a to b features has a · b weights and b biases.",
            changes={"linear_biases": "none"},
        ),
        Misconception(
            "no biases on q, k and v",
            "You leave out the biases of the maps to queries, keys and values. In GPT-2 they have biases like all "
            "others: 3 · n_embd a block.",
            changes={"linear_biases": "no q, k, v"},
        ),
        Misconception(
            "no biases in the feed-forward part",
            "You leave out the two biases of the feed-forward part: 4 · n_embd for the map that widens, n_embd for the "
            "one that narrows.",
            changes={"linear_biases": "attention alone"},
        ),
        Misconception(
            "a bias as long as the input",
            "A bias has as many numbers as its map puts out. The second map of the feed-forward part puts out n_embd "
            "features, and not 4 · n_embd.",
            changes={"linear_biases": "second as wide as its input"},
        ),
        Misconception(
            "4 · n_embd short in a block",
            "Each of your blocks is 4 · n_embd short. That is what the four biases of attention have together, and "
            "also what the two norms of a block have, a scale and a shift each: one of the two is missing.",
            changes={"norms": 0},
        ),
        Misconception(
            "one norm in a block",
            "You count one norm in each block. There are two, one before attention and one before the feed-forward "
            "part.",
            changes={"norms": 1},
        ),
        Misconception(
            "three norms in a block",
            "You count three norms in each block. There are two; the third of the 2017 decoder stood before its "
            "cross-attention, which GPT has not.",
            changes={"norms": 3},
        ),
        Misconception(
            "norms without a shift",
            "Your norms have a scale alone. GPT-2's layer norm has a shift as well: 2 · n_embd each.",
            changes={"shifts": False},
        ),
        Misconception(
            "no final norm",
            "You leave out the norm after the last block: 2 · n_embd parameters.",
            changes={"final_norm": False},
        ),
        Misconception(
            "every head as wide as the model",
            "You count the matrices of attention once for each head. The heads share the width out among themselves: "
            "four matrices of n_embd · n_embd, however many heads there are.",
            changes={"heads": "each full width"},
        ),
        Misconception(
            "feed-forward not widened",
            "Your feed-forward part is as wide inside as outside. GPT-2 widens to 4 · n_embd and narrows again.",
            changes={"inner": 1},
        ),
        Misconception(
            "a bias on the output map",
            "You give the output map a bias. GPT-2's has none.",
            changes={"head_bias": "always"},
        ),
        Misconception(
            "a bias on an untied output map",
            "You give the output map a bias when it is a matrix of its own. It has none then either.",
            changes={"head_bias": "untied"},
        ),
    ),
    properties=(
        Property(
            "a position more costs n_embd",
            _a_position_costs_its_vector,
            "With n_positions larger by 1, the total must grow by n_embd.",
            0.1,
            ("total", "longer.total"),
        ),
        Property(
            "a token more costs n_embd, twice that when untied",
            _a_token_costs_its_vectors,
            "With vocab_size larger by 1, the total must grow by n_embd when tied, and by 2 · n_embd otherwise.",
            0.2,
            ("total", "wider.total"),
        ),
        Property(
            "a block more costs what a block holds",
            _a_block_costs_its_size,
            "With n_layer larger by 1, the total must grow by the parameters of one block, biases and norms included.",
            0.25,
            ("total", "deeper.total", "deeper still.total"),
        ),
    ),
    hints=(
        "Write down every tensor with its shape, from the token embedding to the final norm; then multiply and add.",
        "A block: norm (2 · C), q, k, v (3 · C · C + 3 · C), output projection (C · C + C), norm (2 · C), widen "
        "(4 · C · C + 4 · C), narrow (4 · C · C + C). What stands outside the blocks?",
        "block = 12 * C * C + 13 * C. Outside: vocab_size * C, n_positions * C, 2 * C for the final norm, and "
        "vocab_size * C once more if not tied.",
    ),
)
