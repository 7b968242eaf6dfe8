"""From logits to text: how a next token is chosen, and the loops that choose one after another."""

from gptlib.generation.beam import Beam, beam_search
from gptlib.generation.choosing import Sampling, check_sampling, next_token_probabilities, penalise_repetition
from gptlib.generation.loop import generate, stream
from gptlib.generation.prompts import check_ids, context_limit, left_pad
from gptlib.generation.text import encode_prompt, search_text, stream_text, until

__all__ = [
    "Beam",
    "Sampling",
    "beam_search",
    "check_ids",
    "check_sampling",
    "context_limit",
    "encode_prompt",
    "generate",
    "left_pad",
    "next_token_probabilities",
    "penalise_repetition",
    "search_text",
    "stream",
    "stream_text",
    "until",
]
