"""Every reader of files from outside: a sound example, and how it is read."""

import bz2
from collections.abc import Callable
import gzip
import importlib.util
import json
import pathlib
from typing import NamedTuple

import zstandard

TEXT = 'One two three. Four five six!\nSeven eight nine.\n\nTen, and “eleven”'
LINES = [TEXT] * 3


class Reader(NamedTuple):
  """A row.

  Attributes:
    make: () -> {name in the folder: content}; these are mutated.
    read: (folder): reads all of it. May raise an InputError, and nothing else.
    needs: a package, without which there is nothing to try.
  """
  make: Callable[[], dict[str, bytes]]
  read: Callable[[pathlib.Path], object]
  needs: str = ''


def _jsonl(values) -> bytes:
  return ''.join(json.dumps(value) + '\n' for value in values).encode()


def _documents(ending: str, pack: Callable[[bytes], bytes] = bytes,
               content: Callable[[], bytes] | None = None, needs: str = ''
               ) -> Reader:
  texts = (_jsonl({'text': f'{TEXT} {i}', 'n': i} for i in range(9))
           if 'jsonl' in ending else f'{TEXT}\n\n{TEXT}\n'.encode() * 3)

  def read(folder):
    from robertax.corpus.documents import resolve
    from robertax.corpus.sentences import SPLITTERS
    for mode in ('error', 'replace'):
      for corpus in resolve(f'{folder}/a.{ending}', 'text', mode):
        corpus.fingerprint()
        for document in corpus.documents():
          for splitter in ('lines', 'prose'):
            SPLITTERS[splitter](document)
          document.encode()  # What no encoding has would fail later.

  return Reader(lambda: {f'a.{ending}': pack(content() if content else texts)},
                read, needs)


def _table(kind: str) -> bytes:
  import io

  import pyarrow as pa
  import pyarrow.parquet as pq
  table, file = pa.table({'text': [f'{TEXT} {i}' for i in range(9)],
                          'n': range(9)}), io.BytesIO()
  if kind == 'parquet':
    pq.write_table(table, file, row_group_size=4)
  else:
    with pa.ipc.new_stream(file, table.schema) as stream:
      stream.write_table(table, 4)
  return file.getvalue()


def _warc() -> bytes:
  from tests.corpus.warc_files_test import RECORDS
  return b''.join(RECORDS)


def _wiki() -> bytes:
  from tests.corpus.wiki_dumps_test import HEAD, PAGES
  return (HEAD + ''.join(PAGES) + '</mediawiki>\n').encode()


def _use(tokenizer) -> None:
  for text in ('One two three', '', 'é\u0301 \U0001f600'):
    tokenizer.decode(tokenizer.encode(text))
  tokenizer.token_bytes(tokenizer.vocab_size - 1)
  assert tokenizer.fingerprint


def _load_tokenizer(folder):
  from robertax import text
  found = sorted(folder.iterdir())
  _use(text.load(str(found[0] if len(found) == 1 else folder)))


def _byte_bpe() -> bytes:
  from robertax import text
  return text.train_byte_bpe(LINES, 300).to_json().encode()


def _wordpiece() -> bytes:
  from robertax import text
  return text.train_wordpiece(lambda: LINES, 110).to_json().encode()


def _vocab_txt() -> dict[str, bytes]:
  words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *'abcdefgh', '##a',
           'one', 'two', '##s', '.', '!']
  return {'vocab.txt': '\n'.join(words).encode() + b'\n'}


def _gpt2() -> dict[str, bytes]:
  from robertax.text.pieces import BYTE_OF
  merges = [('h', 'e'), ('t', 'he'), ('Ġ', 't'), ('Ġt', 'he'), ('Ġ', 'o')]
  pieces = [*BYTE_OF, *(a + b for a, b in merges), '<|endoftext|>']
  return {
      'encoder.json': json.dumps(
          {piece: i for i, piece in enumerate(pieces)}).encode(),
      'vocab.bpe': '\n'.join(['#version: 0.2', *map(' '.join, merges), '']
                             ).encode(),
      'dict.txt': ''.join(f'{i} {900 - i}\n' for i in range(len(pieces))
                          ).encode() + b'madeupword0000 0\n'}


def _hf_folder() -> dict[str, bytes]:
  import tempfile

  from robertax import text
  from robertax.config import ModelConfig
  from robertax.interop import Pretrained, huggingface
  from tests.interop.conftest import filled
  tokenizer = text.train_byte_bpe(LINES, 270)
  config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=8,
                       num_layers=1, num_heads=2, mlp_size=8, max_positions=16)
  with tempfile.TemporaryDirectory() as folder:
    huggingface.write_folder(
        Pretrained(filled(config), config, tokenizer, 'random'), f'{folder}/m')
    return {file.name: file.read_bytes()
            for file in pathlib.Path(f'{folder}/m').iterdir()
            if file.suffix in ('.json', '.safetensors')}


def _read_hf(folder):
  from robertax.interop import open_source, source_tokenizer
  source_tokenizer(f'hf:{folder}')
  found = open_source(f'hf:{folder}').read()
  found.tokenizer.encode('One two')


def _fairseq() -> dict[str, bytes]:
  import io

  from tests.oracle.fairseq_oracle_test import save, weights
  file, gpt2 = io.BytesIO(), _gpt2()
  save(file, weights(len(gpt2['dict.txt'].splitlines()) + 5), False)
  return gpt2 | {'model.pt': file.getvalue()}


def _read_fairseq(folder):
  from robertax.interop import open_source
  open_source(f'fairseq:{folder}/model.pt').read()


def _glue() -> dict[str, bytes]:
  return {'train.tsv': b'sentence\tlabel\n' + b'one two\t1\nthree\t0\n' * 5,
          'test.csv': b'sentence,label\r\n' + b'"one, ""two""\n",1\r\n' * 5,
          'dev.jsonl': _jsonl({'sentence': 'one', 'label': '1', 'idx': i}
                              for i in range(4))}


def _read_glue(folder):
  from robertax.tasks.glue_files import GLUE, GlueFiles
  source = GlueFiles(GLUE['sst2'], str(folder))
  for name in ('train', 'dev', 'test'):
    source.split(name, True)


def _squad_files() -> dict[str, bytes]:
  context = 'Ann has a cat. Bob has a dog.'
  content = {'version': 'v2.0', 'data': [{'title': 't', 'paragraphs': [{
      'context': context, 'qas': [
          {'id': 'a', 'question': 'Who?', 'is_impossible': False,
           'answers': [{'text': 'Bob', 'answer_start': 15}]},
          {'id': 'b', 'question': 'What?', 'is_impossible': True,
           'answers': [], 'plausible_answers': []}]}]}]}
  return {'dev.json': json.dumps(content).encode(),
          'predictions.json': b'{"a": "Bob", "b": ""}',
          'na.json': b'{"a": 0.1, "b": 0.9}'}


def _read_squad(folder):
  from robertax.errors import InputError
  from robertax.tasks import scoring, squad_files
  for version in ('1.1', '2.0'):
    try:
      squad_files.read_questions(f'{folder}/dev.json', version)
    except InputError:
      if version == '2.0':
        raise
  scoring.score(scoring.Request(
      'squad', f'{folder}/dev.json', f'{folder}/predictions.json',
      version='2.0', no_answer_scores=f'{folder}/na.json'))


def _race() -> dict[str, bytes]:
  return {'dev-middle.jsonl': _jsonl({
      'id': f'middle{i}.txt', 'article': TEXT, 'questions': ['Who _ ?', 'x'],
      'options': [list('abcd'), list('efgh')], 'answers': ['A', 'D']}
                                     for i in range(3))}


def _read_race(folder):
  from robertax.tasks import race
  race.check_answers(
      race.read_questions(str(folder), 'dev', ('middle',)), 'dev')


def _wsc() -> dict[str, bytes]:
  return {'train.jsonl': _jsonl({
      'text': 'Ann saw Bob and he ran .', 'idx': i, 'label': True, 'target': {
          'span1_text': 'Bob', 'span1_index': 2, 'span2_text': 'he',
          'span2_index': 4}} for i in range(3))}


def _read_wsc(folder):
  from robertax.tasks import wsc
  wsc.read_sentences(str(folder), 'train')


def _workdir() -> dict[str, bytes]:
  from robertax.config import Config, to_dict
  metrics = [{'step': i, 'train/loss': 3.0, 'eval/loss': 2.0, 'train/mfu': None}
             for i in range(4)]
  return {'config.json': json.dumps(to_dict(Config())).encode(),
          'metrics.jsonl': _jsonl(metrics), 'tokenizer.json': _byte_bpe(),
          'clock.jsonl': _jsonl({'start': 1, 'step': i, 'time': 1.0 + i,
                                 'step_seconds': 0.5} for i in range(4))}


def _read_workdir(folder):
  from robertax.inspection import run_log
  log = run_log.read_run(str(folder))
  for found in (log.times, log.keys, log.eval_sets, log.changed, log.step):
    str(found() if callable(found) else found)
  log.series('train/loss')


READERS = {
    'text': _documents('txt'),
    'jsonl': _documents('jsonl'),
    'gzip': _documents('jsonl.gz', gzip.compress),
    'zstandard': _documents(
        'txt.zst', lambda x: zstandard.ZstdCompressor().compress(x)),
    'bzip2': _documents('txt.bz2', bz2.compress),
    'parquet': _documents('parquet', content=lambda: _table('parquet')),
    'arrow': _documents('arrow', content=lambda: _table('arrow')),
    'warc': _documents('warc', content=_warc, needs='warcio'),
    'warc.gz': _documents('warc.gz', gzip.compress, _warc, 'warcio'),
    'wiki': _documents('xml', content=_wiki, needs='mwparserfromhell'),
    'tokenizer.json': Reader(lambda: {'tokenizer.json': _byte_bpe()},
                             _load_tokenizer),
    'wordpiece.json': Reader(lambda: {'tokenizer.json': _wordpiece()},
                             _load_tokenizer),
    'vocab.txt': Reader(_vocab_txt, _load_tokenizer),
    'dict.txt': Reader(_gpt2, _load_tokenizer),
    'hugging_face': Reader(_hf_folder, _read_hf),
    'fairseq': Reader(_fairseq, _read_fairseq, needs='torch'),
    'tsv': Reader(_glue, _read_glue),
    'squad': Reader(_squad_files, _read_squad),
    'race': Reader(_race, _read_race),
    'wsc': Reader(_wsc, _read_wsc),
    'workdir': Reader(_workdir, _read_workdir),
}


def missing(name: str) -> str:
  """The package that a reader's example lacks; '' where it has all."""
  needs = READERS[name].needs
  return needs if needs and importlib.util.find_spec(needs) is None else ''
