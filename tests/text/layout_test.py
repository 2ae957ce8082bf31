"""The layout of a pair is what the library does with two texts."""
import json

import pytest

from robertax import text
from robertax.errors import InputError


@pytest.fixture(scope='module')
def state():
  return json.loads(text.train_byte_bpe(
      ['the cat sat on the mat'] * 20, 300).to_json())


def template(single, pair=None, specials=(('<s>', 0), ('</s>', 2))):
  from tokenizers import processors
  return json.loads(processors.TemplateProcessing(
      single=single, pair=pair, special_tokens=list(specials)).__getstate__())


CASES = [
    None,
    {'type': 'BertProcessing', 'sep': ['</s>', 2], 'cls': ['<s>', 0]},
    {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True,
     'use_regex': True},
    template('<s> $A </s>', '<s> $A </s> </s> $B </s>'),
    template('<s> $A </s>', '<s> $A </s> </s>:1 $B:1 </s>:1'),
    template('$A </s> <s>:2', '$A </s> $B:1 </s>:1 <s>:2'),
    template('<s> $A')]
CASES.append({'type': 'Sequence', 'processors': [CASES[2], CASES[4]]})


@pytest.mark.parametrize('post_processor', CASES)
def test_layout_is_the_librarys(state, post_processor):
  import tokenizers
  tokenizer = text.Tokenizer({**state, 'post_processor': post_processor}, 'it')
  core = tokenizers.Tokenizer.from_str(tokenizer.to_json())
  for texts in (['the cat'], ['the cat', 'mat on'], ['the', '']):
    ids, types = tokenizer.layout.join(*tokenizer.encode_batch(texts))
    theirs = core.encode(*texts)
    assert (ids.tolist(), types.tolist()) == (theirs.ids, theirs.type_ids)


def test_default_layouts(state):
  layout = text.Tokenizer(state, 'it').layout
  assert layout.before, layout.between == ((0,), (2, 2))
  assert layout.single == ((0,), (2,)) and layout.types == (0, 0)
  layout = text.train_wordpiece(lambda: ['ab'] * 9, 100).layout
  assert (layout.before, layout.between, layout.after) == ((2,), (3,), (3,))
  assert layout.types == (0, 1) and layout.between_types == (0,)


@pytest.mark.parametrize('post_processor, says', [
    (template('<s> $A', '$B:1 $A:0'), 'in order'),
    (template('<x> $A', None, [('<x>', 5000)]), 'adds id 5000')])
def test_odd_layouts_are_refused(state, post_processor, says):
  with pytest.raises(InputError, match=says):
    text.Tokenizer({**state, 'post_processor': post_processor}, 'it')
