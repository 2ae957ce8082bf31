"""Made-up text and tasks in their official forms, for benchmarks.same.

Each call writes the same bytes.
"""

import bz2
import gzip
import json
import os
import pathlib
import random
from typing import Any

NAMES = ('Ann', 'Bob', 'Eve', 'Tom')
VERBS = ('ran', 'sang', 'fell', 'won')
THINGS = ('cat', 'dog', 'hen', 'fox', 'car', 'pen')
PLACES = ('Rome', 'Oslo', 'Bern', 'Lima')
WORDS = ('the a of and to in is was it for on with as at by from river stone '
         'green house walks sings under over small great seven eight').split()
# Text that readers, splitters and tokenizers treat specially.
ODD = ('Zoé naïvely wrote “a day” — for 2,000 € — at www.example.org/x?y=1.',
       'Dr. Smith et al. (2019) say: "No." Is that so?! Yes... it is.',
       '日本語の文です。 Смешанный текст. \u00a0\u2003 e\u0301 \U0001f600 end.',
       'One word' + ' and another' * 90,  # Longer than a row.
       'x')
# All files have one time, because fingerprints of corpora contain it.
TIME = 1_600_000_000


def sentence(draw: random.Random) -> str:
  """Makes a sentence: a few words, a capital, a full stop."""
  words = draw.choices(WORDS, k=draw.randint(3, 14))
  return ' '.join(words).capitalize() + draw.choice('...?!')


def documents(seed: int, count: int) -> list[str]:
  """Makes texts of one to a dozen sentences; some are odd, some repeated."""
  draw = random.Random(seed)
  found = []
  for number in range(count):
    lines = [sentence(draw) for _ in range(draw.randint(1, 12))]
    if number % 9 == 4:
      lines.insert(draw.randrange(len(lines)), ODD[number // 9 % len(ODD)])
    found.append(draw.choice((' ', '\n')).join(lines))
    if number % 20 == 10:
      found.append(found[draw.randrange(len(found))])
  return found


def write(folder: pathlib.Path):
  """Writes everything, under `text` and `tasks` of a folder."""
  text, tasks = folder / 'text', folder / 'tasks'
  write_text(text)
  write_glue(tasks / 'glue')
  write_squad(tasks / 'squad')
  write_race(tasks / 'race')
  write_wsc(tasks / 'wsc')
  write_own(tasks / 'own')
  for seed, name in enumerate(('wiki', 'books', 'news')):
    put(tasks / 'paper' / 'pretrain' / f'{name}.jsonl', json_lines(
        {'text': text} for text in documents(seed + 10, 60)))
  for name in ('glue', 'squad', 'race'):  # As robertax.paper has them.
    os.symlink(f'../{name}', tasks / 'paper' / name)
  for path in folder.rglob('*'):
    if not path.is_symlink():
      os.utime(path, (TIME, TIME))


def put(path: pathlib.Path, text: str):
  """Writes a file, and makes its folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding='utf-8')


def json_lines(rows: Any) -> str:
  """Formats rows as one JSON object per line."""
  return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def write_text(folder: pathlib.Path):
  """Writes corpora in several forms, and wrong ones."""
  put(folder / 'plain.txt', '\n\n'.join(documents(1, 120)) + '\n')
  put(folder / 'lines.jsonl', json_lines(
      {'text': text, 'title': str(n)}
      for n, text in enumerate(documents(2, 80))))
  packed = '\n\n'.join(documents(3, 40)).encode()
  (folder / 'many').mkdir()
  (folder / 'many' / 'a.txt.gz').write_bytes(gzip.compress(packed, mtime=0))
  (folder / 'many' / 'b.txt.bz2').write_bytes(bz2.compress(packed))
  put(folder / 'many' / 'c.txt', documents(4, 30)[0])
  put(folder / 'wrong.jsonl', '{"text": "Good."}\n{"text": 3}\n')
  (folder / 'wrong.txt').write_bytes(b'Good text.\n\xff\xfe is not.\n')
  put(folder / 'empty.txt', '')


def write_glue(folder: pathlib.Path):
  """Writes nine tasks of a few dozen rows each."""
  draw = random.Random(5)
  pick = lambda *values: draw.choice(values)
  say = lambda: sentence(draw)
  label = lambda n: ('not_entailment', 'entailment')[n % 2]

  def tsv(path, columns, count, row):
    lines = ['\t'.join(columns)] if columns else []
    lines += ['\t'.join(map(str, row(n))) for n in range(count)]
    put(folder / path, '\n'.join(lines) + '\n')

  for split, count in (('train', 40), ('dev', 24)):
    tsv(f'CoLA/{split}.tsv', None, count,
        lambda n: ('gj04', pick(0, 1), pick('', '*'), say()))
    tsv(f'SST-2/{split}.tsv', ('sentence', 'label'), count,
        lambda n: (say(), pick(0, 1)))
    tsv(f'MRPC/{split}.tsv',
        ('Quality', '#1 ID', '#2 ID', '#1 String', '#2 String'), count,
        lambda n: (pick(0, 1), n, n + 1, say(), say()))
    tsv(f'STS-B/{split}.tsv', ('index', 'sentence1', 'sentence2', 'score'),
        count, lambda n: (n, say(), say(), round(draw.uniform(0, 5), 3)))
    tsv(f'QQP/{split}.tsv',
        ('id', 'qid1', 'qid2', 'question1', 'question2', 'is_duplicate'), count,
        lambda n: (n, n, n, say(), say(), pick(0, 1)))
    tsv(f'QNLI/{split}.tsv', ('index', 'question', 'sentence', 'label'), count,
        lambda n: (n, f'What is {WORDS[n // 2 % 9]}?', say(), label(n)))
    tsv(f'RTE/{split}.tsv', ('index', 'sentence1', 'sentence2', 'label'), count,
        lambda n: (n, say(), say(), label(n)))
    tsv(f'WNLI/{split}.tsv', ('index', 'sentence1', 'sentence2', 'label'),
        count, lambda n: (n, *wnli(draw), n % 2))
  for split in ('train', 'dev_matched', 'dev_mismatched'):
    tsv(f'MNLI/{split}.tsv',
        ('index', 'sentence1', 'sentence2', 'gold_label'), 30,
        lambda n: (n, say(), say(), pick('contradiction', 'neutral',
                                         'entailment')))
  tsv('RTE/test.tsv', ('index', 'sentence1', 'sentence2'), 10,
      lambda n: (n, say(), say()))
  tsv('WNLI/test.tsv', ('index', 'sentence1', 'sentence2'), 10,
      lambda n: (n, *wnli(draw)))
  tsv('RTE/predictions.tsv', ('index', 'prediction'), 20,
      lambda n: (n, pick('entailment', 'not_entailment')))


def wnli(draw: random.Random) -> tuple[str, str]:
  """Makes a sentence with a pronoun, and one with a name in its place."""
  first, second = draw.sample(NAMES, 2)
  verb = draw.choice(VERBS)
  return (f'{first} saw {second} and he {verb} at home .',
          f'{draw.choice((first, second))} {verb} at home .')


def write_squad(folder: pathlib.Path):
  """Writes both versions of SQuAD: who has what where."""
  draw = random.Random(6)
  for version in ('1.1', '2.0'):
    for split, count in (('train', 12), ('dev', 6)):
      articles = []
      for number in range(count):
        name, thing, where = map(draw.choice, (NAMES, THINGS, PLACES))
        context = (f'{sentence(draw)} {name} has a {thing} in {where}. '
                   f'{sentence(draw)} {sentence(draw)}')
        qas = [(f'Who has a {thing}?', name), (f'Where is the {thing}?', where),
               (f'What has {name}?', f'a {thing}')]
        if version == '2.0':
          qas.append(('Who lost it?', None))
        articles.append({'title': where, 'paragraphs': [{
            'context': context, 'qas': [{
                # Both versions share dev's ids, and so a file of predictions.
                'id': f'{version if split == "train" else split}/{number}/{i}',
                'question': question,
                **({'is_impossible': not answer} if version == '2.0' else {}),
                'answers': [{'text': answer,
                             'answer_start': context.index(answer)}]
                if answer else []} for i, (question, answer) in enumerate(qas)
            ]}]})
      put(folder / f'{split}-v{version}.json', json.dumps(
          {'version': version, 'data': articles}))


def write_race(folder: pathlib.Path):
  """Writes RACE, three splits of two parts: who has it?"""
  draw = random.Random(7)
  for split, count in (('train', 4), ('dev', 2), ('test', 2)):
    for part in ('middle', 'high'):
      for number in range(count):
        owners, things = draw.sample(range(4), 4), draw.sample(THINGS, 2)
        put(folder / split / part / f'{number}.txt', json.dumps({
            'id': f'{part}{number}.txt',
            'article': ' '.join(f'{NAMES[o]} has a {t}.\n'
                                for o, t in zip(owners, things)),
            'questions': [f'Who has a {things[0]}?', f'_ has a {things[1]}.'],
            'options': [list(NAMES)] * 2,
            'answers': ['ABCD'[o] for o in owners[:2]]}))


def write_wsc(folder: pathlib.Path):
  """Writes rows of two names and a pronoun."""
  draw = random.Random(8)
  for split, count in (('train', 24), ('val', 12), ('test', 8)):
    rows = []
    for number in range(count):
      first, second = draw.sample(NAMES, 2)
      query = draw.choice((first, second))
      rows.append({
          'text': f'{first} saw {second} and he {draw.choice(VERBS)} .',
          'idx': number, 'target': {
              'span1_text': query, 'span1_index': 0 if query == first else 2,
              'span2_text': 'he', 'span2_index': 4}})
      if split != 'test':
        rows[-1]['label'] = draw.random() < .5
    put(folder / f'{split}.jsonl', json_lines(rows))


def write_own(folder: pathlib.Path):
  """Writes a classification task with labels of its own."""
  draw = random.Random(9)
  for split, count in (('train', 40), ('dev', 20), ('test', 8)):
    put(folder / f'{split}.jsonl', json_lines(
        {'text': sentence(draw), 'index': n}
        | ({'label': draw.choice(('red', 'green', 'blue'))}
           if split != 'test' else {}) for n in range(count)))
