"""Looking inside: what the model would say early, what heads look at, and what happens when a part is changed.

Everything here stands on `record`'s names: an ablation or a patch edits a named activation while the model runs, and
no weight is touched.
"""

from gptlib.interpret.ablation import ablate_heads, ablate_layers, ablate_positions
from gptlib.interpret.heads import (
    PATTERNS,
    HeadScores,
    Label,
    attention_maps,
    head_scores,
    induction_scores,
    repeated_tokens,
    score_maps,
)
from gptlib.interpret.lens import Lens, logit_lens
from gptlib.interpret.patching import Sweep, logit_difference, patch, patch_sweep
from gptlib.interpret.sites import activation_names

__all__ = [
    "PATTERNS",
    "HeadScores",
    "Label",
    "Lens",
    "Sweep",
    "ablate_heads",
    "ablate_layers",
    "ablate_positions",
    "activation_names",
    "attention_maps",
    "head_scores",
    "induction_scores",
    "logit_difference",
    "logit_lens",
    "patch",
    "patch_sweep",
    "repeated_tokens",
    "score_maps",
]
