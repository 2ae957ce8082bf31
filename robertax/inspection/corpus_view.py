"""The text of a run: how much there is, what it looks like, which tokens."""

from typing import NamedTuple

import numpy as np

from robertax import corpus, data
from robertax.errors import InputError
from robertax.inspection.marked_text import Marker
from robertax.inspection.table import Table
from robertax.train import workdir

COUNTED = 16_384  # Rows of a corpus whose tokens are counted.


class CorpusView(NamedTuple):
  """Tables of a run's corpora.

  Attributes:
    sizes: a row a corpus: documents, sentences, rows, tokens, padding.
    examples: held-out text, as the tokenizer gives it back.
    tokens: the most frequent ones of each corpus.
  """
  sizes: Table
  examples: Table
  tokens: Table


def corpora(path: str, examples: int = 3, top_k: int = 20) -> CorpusView:
  """What a run reads; records that are missing are prepared first.

  Args:
    path: W.
    examples: held-out ones of each corpus, spread evenly.
    top_k: tokens of each corpus.

  Raises:
    InputError: no workdir, one of a task without corpora, or its text is gone.
  """
  config = workdir.read_config(path)
  if config is None:
    raise InputError(f'{path!r} is not a workdir of robertax: it has no '
                     'config.json.')
  if config.task != 'pretrain':
    raise InputError(f'{path!r} is of task {config.task!r}: only pretraining '
                     'reads corpora.')
  prepared = corpus.prepare(config.data, config.tokenizer,
                            vocab_size=config.model.vocab_size)
  tok, marker = prepared.tokenizer, Marker(prepared.tokenizer)
  sizes, texts, tokens = [], [], []
  for manifest in prepared.manifests:
    train, held = manifest.splits['train'], manifest.splits['eval']
    sizes.append((
        manifest.corpus, train.num_documents, held.num_documents,
        train.num_sentences, train.num_records, train.num_tokens,
        f'{manifest.counts.get("padding_fraction", 0):.1%}'))
    source = data.open_source([manifest], 'eval', config.data.backend,
                              tok.pad_id, config.data)
    for number in range(min(examples, source.num_records)):
      place = (2 * number + 1) * source.num_records // (2 * examples)
      rows = source.gather(np.array([place]))
      texts.append((manifest.corpus, int(rows.lengths[0, 0]),
                    marker.text(rows.ids[0][:rows.lengths[0, 0]])))
    counts = data.unigram_counts(
        data.open_source([manifest], 'train', config.data.backend, tok.pad_id,
                         config.data), tok.vocab_size, COUNTED)
    best = np.argsort(-counts, kind='stable')[:top_k]
    tokens.append((manifest.corpus, ', '.join(
        f'{tok.token_text(int(i))!r} {counts[i] / counts.sum():.1%}'
        for i in best if counts[i])))
  return CorpusView(
      Table(('corpus', 'documents', 'held out', 'sentences', 'rows', 'tokens',
             'padding'), sizes),
      Table(('corpus', 'tokens', 'held-out example'), texts),
      Table(('corpus', 'most frequent tokens, with their share'), tokens))
