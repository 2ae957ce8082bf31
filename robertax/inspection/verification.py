"""Verifies a conversion: each side read by its own tools, and compared.

A folder of Hugging Face, read or written, is read by transformers in a process
of its own (oracle.py); what robertax alone has read and written proves little,
because a wrong reading is written back as wrongly. Ids are compared on text
that contains what goes wrong, logits on that text and on random ids.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import files, model
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.inspection import opening, oracle
from robertax.inspection.oracle import Outputs
from robertax.interop.huggingface import FAMILIES
from robertax.interop.pretrained import Pretrained
from robertax.text import Tokenizer

# Long and short, so that there is padding; some are not plain English.
SENTENCES = (
    'The committee adjourned at noon, having approved the budget of 1,250,000 '
    'dollars for the new library and its reading rooms.',
    'She sells sea shells by the sea shore.',
    'def area(radius): return 3.14159 * radius ** 2  # of a circle',
    'Zürich, naïve café, 東京, Привет, \U0001f642.',
    'No.',
    'What the tortoise said to Achilles was never written down in full; what '
    'is left of it fills a page, and most of that page is a proof.')
# What tokenizers differ in: scripts, accents whole and combining, capitals,
# spaces, line ends, letters of zero width, long words, digits, marks.
HARD = (
    'Möchte ÉCOLE İstanbul ſtraße ŁÓDŹ',
    'cafe\u0301 no\u0308 a\u0328\u0301 n\u0303', ' a leading space',
    'two  spaces   and three ', 'one\ntwo\n\nthree\r\nfour',
    'tab\there\u00a0and\u2003spaces', 'zero\u200bwidth\u200djoin\ufeffer',
    '你好，世界。今天天气很好', 'こんにちは、カタカナ ｶﾀｶﾅ',
    '안녕하세요 오늘 날씨가', 'नमस्ते दुनिया क्षत्रिय', 'สวัสดีชาวโลก',
    'مَرْحَبًا بِالْعَالَمِ', 'ሰላም ለዓለም', 'γλώσσα ΟΔΟΣ', 'ﬁne ① ½ Ⅷ ＡＢＣ',
    '\U0001f469\u200d\U0001f680 \U0001f1e9\U0001f1ea ❤\ufe0f',
    'https://example.org/a_b?c=d&e=%20', "it's they'll O'Neil's “quoted”",
    'pneumono' * 13, '1234567890 3.14 1e-5 COVID-19', 'a.b,c;d!e?f-g_h/i\\j',
    'MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTY', 'CC(=O)Oc1ccccc1C(=O)O',
    '<e1> </e1> <url> [E1] @USER', '')
PAIRS = ((SENTENCES[1], SENTENCES[3]), (HARD[0], HARD[7]), ('one', 'two three'))
# Float32 sums differ by their order; a logit of 30 has an ulp of 2e-6.
ATOL, RTOL = 1e-4, 1e-5
MOST_TOKENS = 64
RANDOM_ROWS = 16  # Of ids from the whole vocabulary.
SHOWN = 4  # Differences that an error shows.
ROLES = {'cls': 'bos_id', 'sep': 'eos_id', 'pad': 'pad_id', 'unk': 'unk_id',
         'mask': 'mask_id'}


class Unverified(InputError):
  """The sides differ, or too little could be compared; nothing is written."""
  exit_code = 1

  def __init__(self, message: str, verdict: 'Verdict'):
    super().__init__(message)
    self.verdict = verdict


class Differs(InputError):
  """Two outputs differ by more than rounding."""


@dataclasses.dataclass
class Verdict:
  """What was compared, and how it came out."""
  compared: list[str] = dataclasses.field(default_factory=list)
  not_compared: list[str] = dataclasses.field(default_factory=list)
  failed: list[str] = dataclasses.field(default_factory=list)
  differences: list[str] = dataclasses.field(default_factory=list)
  ids_equal: bool | None = None  # None: no ids were compared.
  max_logit_difference: float | None = None

  def to_json(self) -> str:
    """The last line of `robertax.convert --verify`."""
    return json.dumps({key: getattr(self, key) for key in (
        'compared', 'not_compared', 'ids_equal', 'max_logit_difference')},
                      ensure_ascii=False)

  def note_ids(self, what: str, found: Sequence[tuple[str, Any, Any]]):
    """Notes (text, ids or text of theirs, ours) of a comparison."""
    wrong = [(text, a, b) for text, a, b in found if a != b]
    self.ids_equal = self.ids_equal is not False and not wrong
    if wrong:
      text, theirs, ours = wrong[0]
      self.differences.append(
          f'{what} differ on {len(wrong)} of {len(found)}: {text[:60]!r} is '
          f'{_around(theirs, ours)} there and {_around(ours, theirs)} here')
    else:
      self.compared.append(f'{what} ({len(found)})')

  def note_outputs(self, what: str, ours: Outputs, theirs: Outputs,
                   batch: Outputs):
    """Notes the outputs that both sides have."""
    try:
      found = compare_outputs(ours, theirs, batch, what)
    except Differs as e:
      self.differences.append(str(e))
      return
    if found:
      self.max_logit_difference = max(
          self.max_logit_difference or 0., *found.values())
      self.compared.append(f'{what}: {", ".join(found)}')


def _around(value: Any, other: Any) -> str:
  """The part of a value where it begins to differ from another."""
  if isinstance(value, int | None):
    return repr(value)
  at = next((i for i, (a, b) in enumerate(zip(value, other)) if a != b),
            min(len(value), len(other)))
  start = max(0, at - 3)
  if isinstance(value, list) and value and isinstance(value[0], list):
    return _around(value[at], other[at])
  shown = repr(value[start:at + 9])
  return f'{shown} (from place {start})' if start else shown


def verify(original: Pretrained, changed: Pretrained, again: Pretrained,
           written: str, mode: str) -> Verdict:
  """Compares what was read, what was written, and what transformers says.

  Args:
    original: the model that was read.
    changed: what was to be written: `original` with more positions or tokens.
    again: the model that robertax reads from what was written.
    written: the folder of Hugging Face that was written; '': a workdir was.
    mode: 'full', or 'self', which does without transformers.

  Raises:
    Unverified: something differs, or transformers is needed and not installed.
  """
  verdict = Verdict()
  texts = [*SENTENCES, *HARD, *_own_texts(original.source)]
  with jax.default_matmul_precision('highest'):
    for name, batch in batches_of(changed, texts).items():
      verdict.note_outputs(
          f'robertax, read and written: {name}', our_outputs(changed, batch),
          our_outputs(again, batch), batch)
    _note_own_ids(verdict, changed.tokenizer, again.tokenizer, texts)
    kind, _, path = original.source.partition(':')
    sides = [(path, original, 'the source')] if kind == 'hf' else []
    sides += [(written, changed, 'what was written')] if written else []
    if mode == 'self' or not oracle.is_installed():
      verdict.not_compared += [f'{what} by transformers'
                               for _, _, what in sides]
    else:
      for folder, ours, what in sides:
        _ask_transformers(verdict, folder, ours, what, texts)
    if kind == 'fairseq':
      _note_gpt2_ids(verdict, os.path.dirname(os.path.abspath(path)),
                     original.tokenizer, texts)
      verdict.not_compared.append("the source's logits by fairseq")
  if verdict.differences:
    more = len(verdict.differences) - SHOWN
    raise Unverified(
        '; '.join(verdict.differences[:SHOWN])
        + (f'; and {more} more' if more > 0 else '') + '. Nothing was written.',
        verdict)
  if verdict.failed:
    raise Unverified(
        f'transformers cannot read {"; ".join(verdict.failed)}. Nothing was '
        'written. --verify=self does without transformers.', verdict)
  if mode != 'self' and sides and not oracle.is_installed():
    raise Unverified(
        f'torch and transformers are not installed, so these were not '
        f'compared: {", ".join(verdict.not_compared)}. Nothing was written. '
        'Install them (requirements-oracle.txt has the versions), or ask for '
        '--verify=self.', verdict)
  return verdict


def _own_texts(source: str) -> list[str]:
  """Text that a run of robertax has held out, if the source is one."""
  from robertax.inspection.report import load_samples
  with contextlib.suppress(InputError, OSError):
    if samples := load_samples(source):
      return [text.replace('<mask>', word) for text, word, _ in samples.filled]
  return []


def _ask_transformers(verdict: Verdict, folder: str, ours: Pretrained,
                      what: str, texts: list[str]):
  """Compares a model of ours with what transformers reads in a folder."""
  tokenizer, config = ours.tokenizer, ours.config
  rows = _random_rows(tokenizer, starts_word=True)
  batches = batches_of(ours, texts)
  classes = _classes(folder, ours)
  theirs = oracle.ask(folder, texts, list(PAIRS), rows.tolist(), classes,
                      batches)
  if theirs.tokenizer:
    _note_tokenizer(verdict, tokenizer, theirs, rows, f'{what}: ')
  else:
    verdict.not_compared.append(f'{what}: ids ({theirs.why})')
  if theirs.why:
    verdict.failed.append(f'{what} ({theirs.why})')
  missing = {name: found for name, found in theirs.missing.items() if found}
  for name, found in missing.items():
    verdict.not_compared.append(
        f'{what}: {name} (transformers finds no {found[0]}'
        + (f'; {theirs.why})' if theirs.why else ')'))
  heads = set()
  for name, batch in batches.items():
    found = {} if missing else theirs.outputs[name]
    for key in {'lm_head'} & found.keys():  # A table may be padded.
      found[key] = found[key][..., :config.vocab_size]
    heads |= found.keys()
    verdict.note_outputs(f'{what}: {name}', our_outputs(ours, batch), found,
                         batch)
  if theirs.labels and ours.labels and tuple(theirs.labels) != ours.labels:
    verdict.differences.append(f'{what}: classes are {theirs.labels} there and '
                               f'{list(ours.labels)} here')
  if theirs.answers:
    _note_answers(verdict, folder, what, theirs.answers)


def _note_answers(verdict: Verdict, folder: str, what: str,
                  theirs: list[dict[str, float]]):
  """Compares what load() says of texts and pairs with their pipeline."""
  model = opening.load(f'hf:{folder}')
  for text, wanted in zip(oracle.QUESTIONS, theirs):
    try:
      found = (model.classify(text).probabilities if model.method == 'classify'
               else model.rate(text))
      if not isinstance(found, dict):  # A single score has no name.
        found = dict.fromkeys(wanted, found)
    except InputError as e:
      verdict.not_compared.append(f'{what}: answers ({e})')
      return
    if found.keys() != wanted.keys() or any(
        abs(found[label] - wanted[label]) > ATOL for label in wanted):
      verdict.differences.append(
          f'{what}: the answer to {text!r:.60} is {_rounded(wanted)} there and '
          f'{_rounded(found)} here')
      return
  verdict.compared.append(f'{what}: answers ({len(theirs)})')


def _rounded(answer: dict[str, float]) -> dict[str, float]:
  return {label: round(value, 4) for label, value in answer.items()}


def _classes(folder: str, ours: Pretrained) -> list[str]:
  """The classes of transformers that have the heads of a model."""
  values = files.read_json(f'{folder}/config.json')
  family, config = FAMILIES[values['model_type']].classes, ours.config
  named = (values.get('architectures') or [''])[0]
  choice = 'ForMultipleChoice' if ours.choice else 'ForSequenceClassification'
  ends = [end for end, there in (
      ('ForPreTraining', config.nsp_head and config.lm_head),
      ('ForMaskedLM', config.lm_head and not config.nsp_head),
      (choice, config.num_classes), ('ForQuestionAnswering', config.span_head))
          if there] or ['Model']
  found = [family + end for end in ends]
  return sorted(found, key=lambda name: name != named)


def _note_tokenizer(verdict: Verdict, tokenizer: Tokenizer,
                    theirs: oracle.Account, rows: np.ndarray, what: str):
  """Compares ids, pairs, roles and decoding with those of AutoTokenizer."""
  encoded = tokenizer.encode_batch(theirs.texts)
  verdict.note_ids(f'{what}ids of texts', [
      (text, a, b.tolist())
      for text, a, b in zip(theirs.texts, theirs.ids, encoded)])
  verdict.note_ids(f'{what}texts laid out', [
      (text, a[0], tokenizer.layout.join(b)[0].tolist())
      for text, a, b in zip(theirs.texts, theirs.single, encoded)])
  verdict.note_ids(f'{what}pairs and their types', [
      (' | '.join(pair), a, [x.tolist() for x in tokenizer.layout.join(
          *tokenizer.encode_batch(list(pair)))])
      for pair, a in zip(PAIRS, theirs.pairs)])
  verdict.note_ids(f'{what}special ids', [
      (role, theirs.roles[role], getattr(tokenizer, ours))
      for role, ours in ROLES.items() if theirs.roles[role] is not None])
  verdict.note_ids(f'{what}number of ids', [
      ('len', theirs.size, tokenizer.vocab_size)])
  # Only a byte-level BPE keeps spaces. BERT's decoder takes them from before
  # punctuation, which ours leaves there.
  plain = str if tokenizer.kind == 'byte_bpe' else (
      lambda text: ''.join(text.split()))
  verdict.note_ids(f'{what}random ids decoded', [
      (str(row.tolist()), plain(a), plain(tokenizer.decode(row)))
      for row, a in zip(rows, theirs.decoded)])


def _note_own_ids(verdict: Verdict, before: Tokenizer, after: Tokenizer,
                  texts: list[str]):
  verdict.note_ids('robertax, read and written: ids of texts', [
      (text, a.tolist(), b.tolist()) for text, a, b in zip(
          texts, *(t.encode_batch(texts) for t in (before, after)))])


def _note_gpt2_ids(verdict: Verdict, folder: str, tokenizer: Tokenizer,
                   texts: list[str]):
  """Compares with the library's own reader of GPT-2's files and dict.txt."""
  from tokenizers.implementations import ByteLevelBPETokenizer
  paths = [os.path.join(folder, name)
           for name in ('encoder.json', 'vocab.bpe', 'dict.txt')]
  if not all(map(os.path.isfile, paths)):
    verdict.not_compared.append("the source's ids: it has no GPT-2 files")
    return
  gpt2 = ByteLevelBPETokenizer.from_file(*paths[:2])
  with open(paths[2], encoding='utf-8') as f:
    fairseq = {line.rpartition(' ')[0]: i for i, line in enumerate(f, 4)}
  verdict.note_ids('the source: ids by encoder.json, vocab.bpe, dict.txt', [
      (text, [fairseq[str(i)] for i in gpt2.encode(text).ids], ours.tolist())
      for text, ours in zip(texts, tokenizer.encode_batch(texts))])


# Batches, and the outputs of both sides.


def batches_of(pretrained: Pretrained, texts: list[str]) -> dict[str, Outputs]:
  """Texts and random ids as batches, by name."""
  tokenizer, config = pretrained.tokenizer, pretrained.config
  longest = _random_rows(tokenizer, shape=(1, config.max_positions))
  return {'texts': sentence_batch(tokenizer, config, texts),
          'random ids': _batch(list(_random_rows(tokenizer)), tokenizer,
                               config),
          'all positions': _batch(list(longest), tokenizer, config)}


def _random_rows(tokenizer: Tokenizer, starts_word: bool = False,
                 shape: tuple[int, int] = (RANDOM_ROWS, MOST_TOKENS)
                 ) -> np.ndarray:
  """int32[shape]: ids drawn from the whole vocabulary.

  There is no padding, from whose place RoBERTa would count positions anew. To
  be decoded a row begins a word and has no special tokens.
  """
  rng = np.random.default_rng(0)
  kept = [tokenizer.pad_id]
  if starts_word:
    kept = list(tokenizer.special_ids)
  ids = np.setdiff1d(np.arange(tokenizer.vocab_size), kept)
  rows = rng.choice(ids, shape)
  starts = np.flatnonzero(tokenizer.word_starts)
  if starts_word and len(starts):
    rows[:, 0] = rng.choice(starts, len(rows))
  return rows.astype(np.int32)


def sentence_batch(tokenizer: Tokenizer, config: ModelConfig,
                   texts: Sequence[str] = SENTENCES) -> Outputs:
  """The texts as int32[B, T], with a masked token and two types per row."""
  most = min(MOST_TOKENS, config.max_positions)
  rows = []
  for text in texts:
    row = np.concatenate([[tokenizer.bos_id],
                          tokenizer.encode(text)[:max(0, most - 2)],
                          [tokenizer.eos_id]])[:most]
    row[min(2, len(row) - 1)] = tokenizer.mask_id
    rows.append(row)
  return _batch(rows, tokenizer, config)


def _batch(rows: list[np.ndarray], tokenizer: Tokenizer, config: ModelConfig
           ) -> Outputs:
  rows = [row[:config.max_positions] for row in rows]
  length = max(map(len, rows))
  ids = np.full((len(rows), length), tokenizer.pad_id, np.int32)
  for number, row in enumerate(rows):
    ids[number, :len(row)] = row
  lengths = np.array([[len(row)] for row in rows])
  at = np.arange(length)
  return {'input_ids': ids, 'segment_ids': (at < lengths).astype(np.int32),
          'type_ids': ((at >= lengths // 2) & (at < lengths)
                       & config.pair_types).astype(np.int32)}


def our_outputs(pretrained: Pretrained, batch: Outputs) -> Outputs:
  """The states and each head's outputs by name, in float32."""
  config = dataclasses.replace(pretrained.config, dtype='float32')
  with jax.default_matmul_precision('highest'):
    return jax.device_get(_run_model(config, pretrained.params, batch))


@functools.partial(jax.jit, static_argnums=0)
def _run_model(config: ModelConfig, params: Any, batch: dict[str, jax.Array]
               ) -> dict[str, jax.Array]:
  module = model.bind(config, params)
  types = batch['type_ids'] if config.num_types else None
  x_BTD = module.encode(batch['input_ids'], batch['segment_ids'], types)
  first_B1 = jnp.zeros((len(x_BTD), 1), jnp.int32)
  outputs = {'states': x_BTD}
  if config.lm_head:
    everywhere_BT = jnp.broadcast_to(jnp.arange(x_BTD.shape[1]),
                                     x_BTD.shape[:2])
    outputs['lm_head'] = module.mlm_logits(x_BTD, everywhere_BT)
  if config.nsp_head:
    outputs['nsp_head'] = module.nsp_logits(x_BTD, first_B1)[:, 0]
  if config.num_classes:
    outputs['classifier'] = module.class_logits(x_BTD, first_B1)[:, 0]
  if config.span_head:
    outputs['start'], outputs['end'] = module.span_logits(x_BTD)
  return outputs


def compare_outputs(ours: Outputs, theirs: Outputs, batch: Outputs, what: str
                    ) -> dict[str, float]:
  """Compares the outputs that both have, at every token that is not padding.

  Returns the largest difference of each; `what` names the two sides. Differs is
  raised if one is above both ATOL and RTOL times the largest output, or is not
  finite.
  """
  real = batch['segment_ids'] > 0
  found = {}
  for key in sorted(ours.keys() & theirs.keys()):
    a, b = ours[key], theirs[key]
    if a.shape != b.shape:
      raise Differs(f'{what}: {key} has shape {a.shape} and {b.shape}')
    if a.shape[:2] == real.shape and key not in ('classifier', 'nsp_head'):
      a, b = a[real], b[real]
    difference = float(np.abs(a - b).max())
    allowed = max(ATOL, RTOL * float(np.abs(b).max()))
    if not difference <= allowed:  # This includes NaN.
      raise Differs(f'{what}: {key} differs by up to {difference:.3g} on '
                    f'{len(real)} rows; {allowed:.1g} is rounding')
    found[key] = difference
  return found
