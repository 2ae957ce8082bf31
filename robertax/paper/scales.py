"""How large the paper's rows are made: whole on a pod, tiny on two cores.

A scale is data too. `paper` has the paper's numbers; where it names none (the
warm-up of Table 3, for one) the comment says whose they are. `tiny` has a model
of a million parameters, whose rates were chosen beforehand and not tuned, three
seeds of pretraining, and text enough for no more than to compare.

Minutes of `tiny` (expected: 15,000 tokens/s of 2 layers x 128 with dropout on
two quiet cores, 11,000 of 3 layers; 10 s a fine-tuning run of 1,024 short
texts, its start included, 30 s of SQuAD, 60 s of RACE with its test set; 60 s
for text and records):

  1  2 rows x 3 seeds x 1.5M tokens 600 s, 12 runs 120             13 minutes
  2  4 rows x 3 x 1.5M 1,200 s, 24 runs 240, 12 of SQuAD 360       31
  3  4 rows x 3 x 1.5M 1,350 s (rows of 4 are slower), 24 runs 240 28
  4  10 units x 3 x 0.4M 1,090 s, 24 runs 240                      23
  5  2.0M x 3 545 s, 36 runs 360                                   16
  6  2.0M x 3 545 s, 12 runs 360                                   16
  7  2.0M x 3 545 s, 6 runs 360                                    16
  8  base 2.0M x 3 400 s, large as Table 4 1,090, 45 runs 450      33
  encoding  2 rows x 3 x 2.0M 800 s, 12 runs 120                   16
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

PAPER_PIECES = {'byte_bpe': 50_265, 'wordpiece': 30_522}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Batch, length and rate of a pretraining.

  Attributes:
    batch_size: sequences a step.
    learning_rate: the peak.
    steps: updates; 0: as many as `tokens` are.
    tokens: that a run sees, padding not counted.
    changes: other keys of the config.
    topology: where it is compiled for, of itself.
  """
  batch_size: int
  learning_rate: float
  steps: int = 0
  tokens: int = 0
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  topology: str = 'v5e:16x16'


@dataclasses.dataclass(frozen=True)
class Scale:
  """How large the rows are made.

  Attributes:
    name: of SCALES.
    seeds: of pretraining.
    shapes: 'base' and 'large' -> keys of `model`.
    recipes: name -> Recipe.
    changes: keys of every pretraining's config.
    pieces: kind of tokenizer -> ids, where one is trained.
    official_pieces: whether GPT-2's and BERT's are taken where they lie.
    characters: of each corpus, by table, that are read, and as many others that
      are held out; 0: all text, of which the corpus's own part is held out.
    columns: by table, what is asked; a table that is not here: all its columns.
    tuning: keys of every fine-tuning's config.
    tasks: task -> keys of its config.
    scored: task -> questions of each part that are scored, where no key says
      so; not here: all.
    sweep: whether tasks of GLUE are swept over rates and batches.
    tuning_seeds: fine-tuning runs of each setting.
  """
  name: str
  seeds: int
  shapes: Mapping[str, Mapping[str, Any]]
  recipes: Mapping[str, Recipe]
  changes: Mapping[str, Any]
  pieces: Mapping[str, int]
  official_pieces: bool = False
  characters: Mapping[str, int] = dataclasses.field(default_factory=dict)
  columns: Mapping[str, tuple[str, ...]] = dataclasses.field(
      default_factory=dict)
  tuning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tasks: Mapping[str, Mapping[str, Any]] = dataclasses.field(
      default_factory=dict)
  scored: Mapping[str, int] = dataclasses.field(default_factory=dict)
  sweep: bool = False
  tuning_seeds: int = 1


_ADAM = {
    'optim.name': 'adamw_fairseq', 'optim.schedule': 'linear', 'optim.b1': 0.9,
    'optim.b2': 0.98, 'optim.eps': 1e-6, 'optim.weight_decay': 0.01,
    'optim.weight_decay_on': 'all', 'optim.clip_norm': 0.0}
_LAMB = {
    'optim.name': 'lamb', 'optim.b2': 0.999, 'optim.weight_decay_on':
    'matrices', 'optim.clip_norm': 1.0}
_32_CHIPS, _64_CHIPS = 'v5e:4x8', 'v5e:8x8'


def _warmup(steps: int) -> dict[str, Any]:
  return {'optim.warmup_steps': steps}


_FIRST = Recipe(256, 1e-4, 1_000_000, changes=_warmup(10_000),
                topology=_32_CHIPS)
PAPER = Scale(
    'paper', seeds=1,
    shapes={
        'base': dict(hidden_size=768, num_layers=12, num_heads=12,
                     mlp_size=3072, max_positions=512),
        'large': dict(hidden_size=1024, num_layers=24, num_heads=16,
                      mlp_size=4096, max_positions=512)},
    recipes={
        # Table 2's caption: 1M steps of 256 sequences; so are Table 1's. The
        # warm-up is BERT's.
        'formats': _FIRST, '256': _FIRST,
        # fairseq's warm-up for 2K x 125K; 6 % of the run.
        '2k': Recipe(2048, 7e-4, 125_000, changes=_warmup(10_000),
                     topology=_64_CHIPS),
        '8k': Recipe(8192, 1e-3, 31_000, changes=_warmup(1_860)),
        # You et al. 2020 for 32K; micro-batches for its memory.
        'lamb': Recipe(32768, 5e-3, 7_812, changes=_LAMB | _warmup(1_562) | {
            'train.micro_batches': 2}),
        'large': Recipe(8192, 4e-4, 100_000, changes=_warmup(30_000)),
        'base': Recipe(8192, 6e-4, 100_000, changes=_warmup(24_000)),
        # Section 4.4 names neither; as the second row of Table 3.
        'encoding': Recipe(2048, 7e-4, 125_000, changes=_warmup(10_000),
                           topology=_64_CHIPS)},
    changes=_ADAM | {
        'data.sequence_length': 512, 'model.dropout_rate': 0.1,
        'model.attention_dropout_rate': 0.1, 'model.dtype': 'bfloat16',
        'model.remat': 'products', 'train.log_every': 100,
        'train.eval_every': 5_000, 'train.checkpoint_every': 1_000},
    pieces=PAPER_PIECES, official_pieces=True, sweep=True, tuning_seeds=5)

_ROWS = 128  # Tokens of a row.
_NEVER = 1 << 30


def _tiny(batch_size: int, rate: float, tokens: int, **more: Any) -> Recipe:
  return Recipe(batch_size, rate, tokens=tokens, **more)


TINY = Scale(
    'tiny', seeds=3,
    shapes={
        'base': dict(hidden_size=128, num_layers=2, num_heads=2, mlp_size=512,
                     max_positions=_ROWS, layers_unrolled=2),
        'large': dict(hidden_size=128, num_layers=3, num_heads=2, mlp_size=512,
                      max_positions=_ROWS, layers_unrolled=3)},
    recipes={
        'formats': _tiny(8, 2e-3, 1_500_000),
        # The paper's batches over 64; rates about as their square roots.
        '256': _tiny(4, 1e-3, 1_500_000), '2k': _tiny(32, 3e-3, 1_500_000),
        '8k': _tiny(128, 4e-3, 1_500_000),
        'lamb': _tiny(512, 3e-2, 1_500_000, changes=_LAMB),
        'large': _tiny(8, 2e-3, 400_000), 'base': _tiny(8, 2e-3, 400_000),
        'encoding': _tiny(8, 2e-3, 2_000_000)},
    changes=_ADAM | {
        'optim.warmup_steps': 0, 'optim.warmup_rate': 0.1,
        'data.sequence_length': _ROWS, 'data.backend': 'numpy',
        'data.workers': 2, 'model.dropout_rate': 0.1,
        'model.attention_dropout_rate': 0.1, 'train.log_every': 50,
        'train.eval_every': _NEVER, 'train.eval_examples': 64,
        'train.checkpoint_every': 500, 'train.keep_checkpoints': 1},
    # Two ids in fifty of the paper's.
    pieces={'byte_bpe': 2_048, 'wordpiece': 1_244},
    # So little for 1 and 2 that it is read 40 times, as in the paper: each of
    # ten static masks is seen four times.
    characters={'1': 60_000, '2': 60_000, '3': 1_000_000, '4': 300_000,
                '5': 300_000, '6': 300_000, '7': 300_000, '8': 300_000,
                'encoding': 500_000},
    columns={'1': ('loss', 'mnli', 'sst2'),
             '2': ('loss', 'squad1', 'mnli', 'sst2'),
             '3': ('loss', 'perplexity', 'mnli', 'sst2'),
             '4': ('loss', 'mnli', 'sst2'),
             '5': ('mnli', 'qnli', 'rte', 'sst2', 'cola', 'stsb'),
             '8': ('mnli', 'sst2', 'cola')},
    # One evaluation, the last: nothing is chosen by what is reported.
    tuning={'optim.learning_rate': 3e-4, 'data.batch_size': 32,
            'data.sequence_length': _ROWS, 'data.backend': 'numpy',
            'train.eval_every': _NEVER, 'train.checkpoint_every': _NEVER,
            'train.log_every': 20, 'finetune.epochs': 3,
            'finetune.max_train_examples': 1_024},
    tasks={
        'squad1': {'data.doc_stride': 32, 'data.question_length': 24,
                   'data.eval_files': 'dev-v1.1.json[::16]',
                   'finetune.max_train_examples': 512, 'finetune.epochs': 2},
        'squad2': {'data.doc_stride': 32, 'data.question_length': 24,
                   'data.eval_files': 'dev-v2.0.json[1::6]',
                   'finetune.max_train_examples': 512, 'finetune.epochs': 2},
        'race': {'finetune.max_train_examples': 512, 'finetune.epochs': 2}},
    scored={'race': 400})

SCALES = {scale.name: scale for scale in (TINY, PAPER)}
