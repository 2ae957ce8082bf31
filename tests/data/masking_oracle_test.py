"""How many tokens Hugging Face's collator masks, and what becomes of them."""

import numpy as np
import pytest
from scipy import stats

from robertax.data.hashing import train_keys
from robertax.data.masking import Masking

pytestmark = pytest.mark.oracle
ALPHA = 1e-4  # Seeds are fixed: a test that passes once passes always.
V, MASK = 1000, 999


def test_collator_and_bert_law_differ_in_the_number_only():
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  import tokenizers

  names = {0: '<s>', 1: '<pad>', 2: '</s>', 3: '<unk>', MASK: '<mask>'}
  tokenizer = transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(
          {names.get(i, f't{i}'): i for i in range(V)}, unk_token='<unk>')),
      bos_token='<s>', pad_token='<pad>', eos_token='</s>', unk_token='<unk>',
      mask_token='<mask>', cls_token='<s>', sep_token='</s>')
  size, length = 2000, 102
  ids = np.random.default_rng(0).integers(4, MASK, (size, length)).astype('i4')
  ids[:, 0], ids[:, -1] = 0, 2
  torch.manual_seed(0)
  collator = transformers.DataCollatorForLanguageModeling(
      tokenizer, mlm_probability=0.15, return_tensors='pt')
  batch = collator([{'input_ids': row.tolist()} for row in ids])
  theirs = batch['labels'].numpy() != -100
  now = batch['input_ids'].numpy()
  assert not theirs[:, [0, -1]].any()

  keys = train_keys(0, np.zeros(size, int), np.arange(size)[:, None])
  batch = Masking(
      mask_rate=0.15, random_rate=0.1, keep_rate=0.1, specials='exclude',
      vocab_size=V, mask_id=MASK, special_ids=(0, 1, 2, 3, MASK),
      law='bert').numpy(ids, np.ones_like(ids), keys)
  ours = np.zeros_like(theirs)
  rows, slots = np.nonzero(batch['mlm_weights'])
  ours[rows, batch['mlm_positions'][rows, slots]] = True

  # Theirs is Bernoulli(.15) a token; ours always round(.15 * 102).
  assert (ours.sum(1) == 15).all()
  counts = theirs.sum(1)
  assert abs(counts.mean() - 15) < 0.4
  assert 0.85 < counts.var() / (100 * 0.15 * 0.85) < 1.15
  # Of the chosen, the same shares are masked, kept and random.
  table = [np.bincount(np.select([x == MASK, x == ids], [0, 1], 2)[chosen])
           for x, chosen in ((now, theirs), (batch['input_ids'], ours))]
  assert stats.chi2_contingency(np.stack(table)).pvalue > ALPHA
  places = [chosen.sum(0)[1:-1] for chosen in (theirs, ours)]
  assert stats.chi2_contingency(np.stack(places)).pvalue > ALPHA
