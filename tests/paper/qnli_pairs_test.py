import os

import pytest

from robertax.paper import inputs
from robertax.tasks import squad_files
from robertax.tasks.squad_files import GoldAnswer, Question

CONTEXT = ('Dr. Bo made the first ship in Rome.  It sank in May. '
           'The ship was\tfound by Ann.')
DATA = os.environ.get('ROBERTAX_TEST_DATA', '')


def question(asked, answer, key='q', context=CONTEXT):
  answers = (GoldAnswer(answer, context.index(answer)),) if answer else ()
  return Question(key, '', asked, context, answers)


def test_sentences_stand_where_they_are_said_to():
  found = inputs.paragraph_sentences(CONTEXT)
  assert [CONTEXT[at:at + len(s)] for at, s in found] == [s for _, s in found]
  assert len(found) == 3


def test_the_answers_sentence_and_the_one_most_like_the_question():
  made, left_out = inputs.qnli_pairs([
      question(' Who found the ship? ', 'Ann'),
      question('When did it sink?', 'May')])
  assert left_out == 0
  assert [(p.question, p.sentence[:9], p.label) for p in made] == [
      ('Who found the ship?', 'The ship ', 'entailment'),
      ('Who found the ship?', 'Dr. Bo ma', 'not_entailment'),
      ('When did it sink?', 'It sank i', 'entailment'),
      ('When did it sink?', 'Dr. Bo ma', 'not_entailment')]


def test_questions_without_a_pair_are_counted():
  made, left_out = inputs.qnli_pairs([
      question('Nothing?', ''), question('Two sentences?', 'May. The'),
      question('Alone?', 'ship', context='One ship.')])
  assert (made, left_out) == ([], 3)


def test_the_file_is_glues(tmp_path):
  made, _ = inputs.qnli_pairs([question('Who\tfound it?', 'Ann')])
  path = tmp_path / 'train.tsv'
  inputs.write_qnli(made, str(path))
  header, *rows = path.read_text().splitlines()
  assert header == 'index\tquestion\tsentence\tlabel'
  assert rows[0] == '0\tWho found it?\tThe ship was found by Ann.\tentailment'
  assert [len(row.split('\t')) for row in rows] == [4, 4]


@pytest.mark.skipif(not os.path.isdir(f'{DATA}/squad'), reason=(
    'ROBERTAX_TEST_DATA names no folder with squad/ and glue/'))
def test_agrees_with_qnli_where_both_have_the_pair():
  """The official dev set is of the same questions, by another splitter."""
  questions = squad_files.read_questions(f'{DATA}/squad/dev-v1.1.json', '1.1')
  made, left_out = inputs.qnli_pairs(questions)
  assert left_out < .07 * len(questions)
  ours = {(p.question, p.sentence): p.label for p in made}
  same = different = 0
  with open(f'{DATA}/glue/QNLI/dev.tsv', encoding='utf-8') as f:
    for line in list(f)[1:]:
      _, asked, sentence, label = line.rstrip('\n').split('\t')
      label_here = ours.get((asked, sentence), label)
      same += (asked, sentence) in ours and label_here == label
      different += label_here != label
  assert same > 2000 and different < .01 * same
