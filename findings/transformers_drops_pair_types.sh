#!/usr/bin/env bash
# transformers 5: the types that a tokenizer.json gives a pair are dropped.
#
# A post-processor may give the second text of a pair type 1, and the tokenizers
# library does so. PreTrainedTokenizerFast of transformers 5 leaves
# token_type_ids out unless model_input_names of tokenizer_config.json asks for
# them, and a model with two types then takes zeros, without a warning.
# transformers 4 gave them for the same folder.
#
# Seen with Python 3.11:
#   transformers 4.57.1: tokenizers gives [0, 0, 0, 1, 1], AutoTokenizer the same
#   transformers 5.23.0: tokenizers gives [0, 0, 0, 1, 1], AutoTokenizer nothing
#
# Exit code 0: as seen; 1: the behaviour has changed. Needs python3 and pip.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
for version in 4.57.1 5.23.0; do
  python3 -m venv "$room/$version"
  "$room/$version/bin/pip" install -q "transformers==$version" 2>/dev/null
  "$room/$version/bin/python" - "$room/folder-$version" 2>/dev/null <<'P'
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, processors
import transformers

library = Tokenizer(models.WordLevel(
    {'[CLS]': 0, '[SEP]': 1, 'a': 2, 'b': 3, '[UNK]': 4}, '[UNK]'))
library.pre_tokenizer = pre_tokenizers.Whitespace()
library.post_processor = processors.TemplateProcessing(
    single='[CLS] $A [SEP]', pair='[CLS] $A [SEP] $B:1 [SEP]:1',
    special_tokens=[('[CLS]', 0), ('[SEP]', 1)])
transformers.PreTrainedTokenizerFast(
    tokenizer_object=library, unk_token='[UNK]').save_pretrained(sys.argv[1])
theirs = transformers.AutoTokenizer.from_pretrained(sys.argv[1])('a', 'b')
types = theirs.get('token_type_ids')
print(f'transformers {transformers.__version__}: tokenizers gives '
      f'{library.encode("a", "b").type_ids}, AutoTokenizer {types}')
new = int(transformers.__version__.split('.')[0]) >= 5
sys.exit(types != (None if new else [0, 0, 0, 1, 1]))
P
done
