"""The cases of benchmarks.same, one row each.

Everything lies below the folder in which a side runs, under the same relative
names on both sides: `caches/NAME`, `w/NAME`, `out/NAME`. Both share the text
and tasks (same_data) at one path, so that fingerprints of text, which depend on
paths and times, are equal too.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import pathlib
import signal
from typing import Any

PARTS = ('config', 'records', 'batches', 'losses', 'resume', 'doors')
FORMATS = ('full_sentences', 'doc_sentences', 'segment_pair', 'sentence_pair')
DOORS = ('main', 'prepare', 'convert', 'report', 'aot', 'score', 'sweep',
         'paper')
GLUE = ('cola', 'sst2', 'mrpc', 'stsb', 'qqp', 'mnli', 'qnli', 'rte', 'wnli')
# Most of the time is compilation; this takes 15 seconds per run, not 60.
XLA_FLAGS = ('--xla_backend_optimization_level=0 '
             '--xla_cpu_use_fusion_emitters=false')
WRONG = 2  # The exit code of wrong input.


@dataclasses.dataclass(frozen=True)
class Case:
  """One case, which both trees run.

  Attributes:
    name: its name, valid as a file name.
    part: one of PARTS.
    argv: a door and its flags, or
    call: a function of same_probe, with
    given: its arguments.
    code: the right exit code; the table is wrong if both sides differ from it.
    files: folders and files to compare.
    hashed: hashes in its output depend on the side's own folder.
    like: (folder, other folder) of one side that must have equal metrics,
      results and last checkpoints: a resumed and an undisturbed run.
    needs: cases that come before.
    round: both sides finish the first round of a part before its second begins;
      then, for each
    swap: (from, to), folders go to the other side, and for each
    share: (from, to), a folder of the first side goes to both.
    slow: it takes more than half a minute, and runs only on request.
    fresh: it runs in a new process, as a person starts it, not in a fork.
    env, before, strike: see same_probe.
  """
  name: str
  part: str
  argv: tuple[str, ...] = ()
  call: str = ''
  given: dict[str, Any] = dataclasses.field(default_factory=dict)
  code: int = 0
  files: tuple[str, ...] = ()
  hashed: bool = False
  like: tuple[str, str] | None = None
  needs: tuple[str, ...] = ()
  round: int = 1
  swap: tuple[tuple[str, str], ...] = ()
  share: tuple[tuple[str, str], ...] = ()
  slow: bool = False
  fresh: bool = False
  env: dict[str, str] = dataclasses.field(default_factory=dict)
  before: str = ''
  strike: tuple[int, str] | None = None

  def job(self) -> dict[str, Any]:
    """The job for same_probe."""
    made: dict[str, Any] = {'name': self.name}
    for key in ('argv', 'call', 'given', 'fresh', 'env', 'before', 'strike'):
      if getattr(self, key):
        made[key] = getattr(self, key)
    return made if self.argv else made | {'given': self.given}


# The model is so small that almost all of its time is compilation.
TINY = {
    'data.workers': 1, 'data.sequence_length': 32, 'data.batch_size': 8,
    'tokenizer.vocab_size': 400, 'model.hidden_size': 16, 'model.num_layers': 2,
    'model.num_heads': 2, 'model.mlp_size': 32, 'model.max_positions': 64}
SHORT = {
    'train.steps': 10, 'train.log_every': 1, 'train.eval_every': 5,
    'train.checkpoint_every': 5, 'train.save_in_background': False}
PAIRS = {'data.pair_duplicates': 3}
BERT = PAIRS | {'data.first_sequence_length': 16,
                'data.first_sequence_steps': 5, 'data.max_predictions': 7}


def flags(values: dict[str, Any]) -> tuple[str, ...]:
  """A door's flags for config keys."""
  return tuple(f'--config.{key}={value}' for key, value in values.items())


class Table:
  """The cases, which use a folder of same_data."""

  def __init__(self, made: pathlib.Path):
    """Args:
      made: with `text` and `tasks`.
    """
    self._tasks = f'{made}/tasks'
    self._text = {name: f'{made}/text/{file}' for name, file in (
        ('plain', 'plain.txt'), ('lines', 'lines.jsonl'), ('many', 'many'),
        ('wrong', 'wrong.jsonl'), ('bytes', 'wrong.txt'),
        ('empty', 'empty.txt'))}
    self._text['all'] = ','.join(
        self._text[name] for name in ('plain', 'lines', 'many'))

  def cases(self, configs: Iterable[str]) -> list[Case]:
    """All of them.

    Args:
      configs: config files of either tree.
    """
    return [*self.config(configs), *self.records(), *self.batches(),
            *self.losses(), *self.tasks(), *self.resume(), *self.doors(),
            *self.wrong()]

  def config(self, configs: Iterable[str]) -> Iterator[Case]:
    """Every key with its default, every config file with its arguments."""
    yield Case('defaults', 'config', call='defaults')
    own = {'configs/glue.py': [f'task={task}' for task in GLUE],
           'configs/squad.py': ['version=1.1', 'version=2.0'],
           'configs/race.py': ['task=race/middle', 'task=race/high'],
           'configs/wsc.py': ['task=wsc', 'task=wnli_spans'],
           'configs/paper/table1.py': ['row=static', 'row=dynamic'],
           'configs/paper/table2.py': [f'row={name}' for name in FORMATS],
           'configs/paper/table3.py': [
               f'row={name}' for name in ('256', '2k', '8k', '32k')],
           'configs/paper/table4.py': [
               f'row={name}' for name in ('two', 'five', 'longer', 'longest')]}
    for path in configs:
      yield Case(
          path.removesuffix('.py').replace('/', '-'), 'config',
          call='config_file', given={'path': path, 'args': [
              None, 'batch_size=24,train.steps=7,hidden_size=48',
              *own.get(path, ())]})

  def _data(self, name: str, text: str = 'plain', **values) -> dict[str, Any]:
    """The config keys of a tiny run on a text, with its own cache."""
    return TINY | {'data.corpora': self._text[text],
                   'data.cache_dir': f'caches/{name}'} | values

  def records(self) -> Iterator[Case]:
    """Records of each format and tokenizer, and options that affect bytes."""
    def case(name, values, *more, config='roberta_base', **keywords):
      cache = f'caches/{name}'
      return Case(name, 'records', (
          'robertax.prepare', f'--config=configs/{config}.py',
          *flags(self._data(name) | values), *more), files=(cache,), **keywords)

    for form in FORMATS:
      for kind in ('byte_bpe', 'wordpiece'):
        yield case(f'{form}-{kind}', {
            'data.format': form, 'tokenizer.kind': kind} | PAIRS, '--memmap')
    corpora = {'data.corpora': self._text['all']}
    yield case('corpora', corpora | {'data.backend': 'numpy'}, fresh=True)
    yield case('two-workers', corpora | {
        'data.workers': 2, 'data.keep_tokens': False})
    yield case('cleaned', corpora | {
        'data.drop_duplicates': True, 'data.min_document_chars': 60,
        'data.document_filter': 'lines=textwrap:dedent'})
    yield case('lines-title', {
        'data.corpora': self._text['lines'], 'data.text_field': 'title',
        'data.sentences': 'lines', 'tokenizer.vocab_size': 270})
    yield case('bad-bytes', {
        'data.corpora': f'{self._text["bytes"]},{self._text["plain"]}',
        'data.invalid_utf8': 'replace'})
    yield case('bert-pairs', PAIRS | {
        'data.pair_negatives': 'bert', 'data.pair_short_rate': 0.3,
        'data.first_sequence_length': 16, 'data.first_sequence_steps': 4,
        'tokenizer.lowercase': False}, config='bert_base')
    # The reader reads everything, even if few documents are long enough.
    yield case('python', {
        'data.corpora': 'python', 'data.min_document_chars': 60_000}, slow=True)
    yield Case('verified', 'records', (
        'robertax.prepare', '--verify', '--config=configs/roberta_base.py',
        *flags(self._data('corpora') | corpora)), needs=('corpora',))

  def batches(self) -> Iterator[Case]:
    """Batches of each format, mask, unit, backend and masking law."""
    units = {'token': {}, 'whole_word': {},
             'span': {'data.span_length': 3, 'data.span_stdev': 1.0}}
    variants = {
        f'{masks} {unit} {backend}': {
            'data.masks': masks, 'data.masking_unit': unit,
            'data.backend': backend, 'data.num_static_masks': 2} | more
        for masks in ('dynamic', 'static') for unit, more in units.items()
        for backend in ('tf', 'numpy')}
    for form in FORMATS:
      yield self._batches(f'batches-{form}', variants, {
          'data.format': form} | PAIRS)
    backends = {'numpy': {'data.backend': 'numpy'}, 'tf': {}}
    both = lambda name, values: {
        f'{name} {backend}': values | more
        for backend, more in backends.items()}
    bert = {'data.masking_law': 'bert', 'data.max_predictions': 3}
    yield self._batches(
        'batches-laws', {
            **both('bert', bert),
            **both('bert words', bert | {'data.masking_unit': 'whole_word'}),
            **both('excluded', {'data.specials': 'exclude'}),
            **both('rates', {'data.mask_rate': .4, 'data.mask_rate_end': .1,
                             'data.mask_rate_steps': 9,
                             'data.replace_random_rate': .3,
                             'data.replace_keep_rate': .2}),
            **both('seed', {'seed': 5}),
            **both('shuffled', {'data.shuffle_block': 4,
                                'data.shuffle_window': 3}),
            **both('lanes', {'data.shuffle_block': 2, 'data.shuffle_window': 2,
                             'data.shuffle_lanes': 4}),
            'ops': {'data.masking_ops': 'tensorflow'},
            'ops static': {'data.masking_ops': 'tensorflow',
                           'data.masks': 'static'}}, {})
    mixed = {'data.corpora': self._text['all']}
    yield self._batches(
        'batches-mixed', {
            **both('as they are', {}), **both('alpha', {
                'data.mixture': 'alpha=0.5'}),
            **both('weights', {'data.mixture': '4,1,2'}),
            **both('names', {'data.mixture': 'many=1,plain=2,lines=1'})}, mixed)
    yield self._batches('batches-wordpiece', variants, PAIRS | {
        'tokenizer.kind': 'wordpiece', 'data.format': 'segment_pair',
        'data.pair_negatives': 'bert', 'data.pair_short_rate': .2,
        'data.first_sequence_length': 16, 'data.first_sequence_steps': 1})
    yield Case('shown', 'batches', call='shown', given={
        'config': 'configs/roberta_base.py', 'steps': [0, 7],
        'values': self._data('shown')})
    yield Case('shown-words', 'batches', (
        'robertax.prepare', '--show', '--config=configs/bert_base.py',
        '--step=3', '--rows=0', *flags(self._data('shown-words') | PAIRS | {
            'data.first_sequence_length': 16, 'data.masking_unit': 'whole_word',
            'data.first_sequence_steps': 2, 'data.max_predictions': 7})))
    base = {'tokenizer.path': 'w/roberta_base/tokenizer.json',
            'data.batch_size': 8, 'data.sequence_length': 64,
            'model.max_positions': 64, 'finetune.eval_tokens': 512}
    for name, config, arg, values in self._tunings():
      yield Case(f'batches-{name}', 'batches', call='tuning', given={
          'config': f'configs/{config}.py', 'arg': arg,
          'values': base | values}, needs=('roberta_base',))

  def _batches(self, name, variants, values) -> Case:
    return Case(name, 'batches', call='batches', given={
        'config': 'configs/roberta_base.py', 'variants': variants,
        'values': self._data(name) | values})

  def _tunings(self) -> Iterator[tuple[str, str, str | None, dict[str, Any]]]:
    """(name, config file, its argument, keys) of each fine-tuning task."""
    glue = {'data.dir': f'{self._tasks}/glue'}
    for task in GLUE:
      yield task, 'glue', f'task={task}', glue
    yield 'qnli_ranking', 'glue', None, glue | {'task': 'qnli_ranking'}
    squad = {'data.dir': f'{self._tasks}/squad', 'data.doc_stride': 12,
             'data.question_length': 16, 'data.sequence_length': 40}
    yield 'squad', 'squad', 'version=1.1', squad
    yield 'squad2', 'squad', 'version=2.0', squad
    yield 'squad-slice', 'squad', 'version=2.0', squad | {
        'data.train_files': 'train-v1.1.json[::2],train-v2.0.json[1:5]',
        'data.eval_files': 'dev-v2.0.json[1::2]'}
    yield 'race', 'race', None, {
        'data.dir': f'{self._tasks}/race', 'finetune.predict_test': True,
        'finetune.max_option_length': 24}
    wsc = {'data.dir': f'{self._tasks}/wsc'}
    yield 'wsc', 'wsc', None, wsc | {
        'finetune.predict_test': True, 'train.micro_batches': 2}
    yield 'wsc-margin', 'wsc', None, wsc | {
        'finetune.ranking_loss': 'margin', 'train.micro_batches': 1}
    yield 'wnli_spans', 'wsc', 'task=wnli_spans', glue | {
        'finetune.wsc_dir': f'{self._tasks}/wsc', 'train.micro_batches': 1,
        'finetune.predict_test': True}
    yield 'own', 'text_classification', None, {
        'data.dir': f'{self._tasks}/own', 'finetune.predict_test': True}

  def pretraining(self, what: str, config: str, values: dict[str, Any],
                  workdir: str = '', **keywords) -> Case:
    """A run of ten steps, whose whole workdir is compared."""
    workdir = workdir or f'w/{what}'
    return Case(**{
        'name': what, 'part': 'losses', 'files': (workdir,), 'argv': (
            'robertax.main', f'--config=configs/{config}',
            f'--workdir={workdir}', *flags(
                self._data(what) | SHORT | values))} | keywords)

  def losses(self) -> Iterator[Case]:
    """Ten steps of each family of pretraining configs."""
    yield self.pretraining('roberta_base', 'roberta_base.py', {})
    yield self.pretraining('quickstart', 'quickstart.py', {}, fresh=True)
    yield self.pretraining('reference', 'reference.py', {
        'data.corpora': self._text['all'], 'data.first_sequence_length': 16,
        'data.first_sequence_steps': 5, 'data.backend': 'numpy'})
    yield self.pretraining('bert_base', 'bert_base.py', BERT)
    yield self.pretraining('lamb_32k', 'lamb_32k.py', {})
    for name in ('256', '2k', '8k'):
      yield self.pretraining(f'table3_{name}', f'table3_{name}.py', {})
    for table, row in ((1, 'static'), (1, 'dynamic'), (2, 'sentence_pair'),
                       (2, 'doc_sentences'), (3, '32k'), (4, 'longest')):
      yield self.pretraining(
          f'paper-{table}-{row}', f'paper/table{table}.py:row={row}', PAIRS)
    # Several devices, and a policy that depends on losses.
    yield self.pretraining('mesh', 'roberta_base.py', {
        'mesh.data': 2, 'mesh.fsdp': 2, 'mesh.zero1': True,
        'train.micro_batches': 2, 'optim.on_divergence': 'skip',
        'optim.spike_loss': 3.0, 'data.masking_unit': 'whole_word'}, env={
            'XLA_FLAGS': '--xla_force_host_platform_device_count=4 '
                         + XLA_FLAGS})

  def tuning(self, what: str, config: str, arg: str | None,
             values: dict[str, Any], workdir: str = '', **keywords) -> Case:
    """A fine-tuning run of ten steps from w/roberta_base."""
    workdir = workdir or f'w/tuned-{what}'
    keys = SHORT | {
        'init_from': 'w/roberta_base', 'data.batch_size': 8,
        'data.sequence_length': 64, 'data.cache_dir': f'caches/tuned-{what}',
        'finetune.eval_tokens': 512} | values
    return Case(**{
        'name': f'tuned-{what}', 'part': 'losses', 'files': (workdir,),
        'needs': ('roberta_base',), 'argv': (
            'robertax.main',
            f'--config=configs/{config}.py' + (f':{arg}' if arg else ''),
            f'--workdir={workdir}', *flags(keys))} | keywords)

  def tasks(self) -> Iterator[Case]:
    """Ten steps of each family of fine-tuning configs."""
    alike = ('qnli_ranking', 'squad', 'wsc-margin', 'wnli_spans')
    trained = ('rte', 'stsb', 'squad2', 'race', 'wsc', 'own', *alike)
    for name, config, arg, values in self._tunings():
      if name in trained:
        yield self.tuning(name, config, arg, values | (
            {'finetune.predict_test': True} if name == 'rte' else {}),
                          slow=name in alike)

  def resume(self) -> Iterator[Case]:
    """Killed and stopped runs, which the other side resumes."""
    stop = (('killed', signal.SIGKILL, 'checkpoints/10'),
            ('stopped', signal.SIGTERM, 'checkpoints/5'))
    tuned = next(row for row in self._tunings() if row[0] == 'rte')
    values = tuned[3] | {'finetune.predict_test': True}
    for name, number, ending in stop:
      for what, make, whole in (
          ('bert_base', lambda *a, **k: self.pretraining(
              'bert_base', 'bert_base.py', BERT, *a, **k), 'w/bert_base'),
          ('tuned-rte', lambda *a, **k: self.tuning(
              'rte', tuned[1], tuned[2], values, *a, **k), 'w/tuned-rte')):
        mine, theirs = f'w/{name}-{what}', f'w/{name}-{what}-there'
        slow = (name, what) in (('killed', 'tuned-rte'),
                                ('stopped', 'bert_base'))
        yield make(
            mine, name=f'{name}-{what}', part='resume', needs=(what,),
            slow=slow, strike=(int(number), ending), files=(),
            code=-number if number == signal.SIGKILL else 128 + number)
        yield make(
            theirs, name=f'{name}-{what}-there', part='resume', round=2,
            slow=slow,
            needs=(f'{name}-{what}',), swap=((mine, theirs),),
            like=(theirs, whole))

  def doors(self) -> Iterator[Case]:
    """The help of each door, and the output of those that do not train."""
    for door in DOORS:
      yield Case(f'help-{door}', 'doors', (f'robertax.{door}', '--help'),
                 fresh=True)
    base, tuned = ('roberta_base',), ('tuned-rte',)
    case = lambda name, argv, files=(), **more: Case(
        name, 'doors', tuple(argv.split()), files=files, **more)
    yield case('to-hf', 'robertax.convert --source=w/roberta_base '
               '--target=hf:out/hf --verify', ('out/hf',), needs=base,
               fresh=True)
    yield case('from-hf', 'robertax.convert --source=hf:out/hf --target='
               'w/from-hf --max_positions=80', ('w/from-hf',),
               needs=('to-hf',))
    yield case('bert-to-hf', 'robertax.convert --source=w/bert_base '
               '--target=hf:out/hf-bert', ('out/hf-bert',),
               needs=('bert_base',))
    yield case('tuned-to-hf', 'robertax.convert --source=w/tuned-rte '
               '--target=hf:out/hf-rte', ('out/hf-rte',), needs=tuned)
    yield case('squad-to-hf', 'robertax.convert --source=w/tuned-squad2 '
               '--target=hf:out/hf-squad', ('out/hf-squad',),
               needs=('tuned-squad2',))
    texts = ['The river is <mask> the house.', 'Seven <mask> walks and sings.']
    yield Case('loaded', 'doors', call='model', needs=base,
               given={'path': 'w/roberta_base', 'texts': texts})
    yield Case('loaded-hf', 'doors', call='model', needs=('to-hf',),
               given={'path': 'out/hf', 'texts': texts})
    yield Case('classified', 'doors', call='classes', needs=tuned, given={
        'path': 'w/tuned-rte', 'texts': [['A river.', 'A green house.'],
                                         ['It was small.', 'It was it.']]})
    for name, whole in (('base', 'roberta_base'), ('rte', 'tuned-rte')):
      yield Case(
          f'report-{name}', 'doors', (
              'robertax.report', f'--workdir=w/same-{name},w/same-bert',
              f'--out=out/{name}.html'), files=(f'out/{name}.html',),
          needs=(whole, 'bert_base'), round=2, fresh=name == 'base',
          share=((f'w/{whole}', f'w/same-{name}'),
                 ('w/bert_base', 'w/same-bert')))
    squad = f'{self._tasks}/squad/dev-v'
    yield case('score-squad2', f'robertax.score --task=squad --version=2.0 '
               f'--references={squad}2.0.json --predictions=w/tuned-squad2/'
               'predictions.json --no_answer_scores=w/tuned-squad2/na_prob.json'
               ' --no_answer_threshold=0.4', needs=('tuned-squad2',),
               fresh=True)
    yield case('score-squad', f'robertax.score --task=squad --version=1.1 '
               f'--references={squad}1.1.json[::2] --predictions='
               'w/tuned-squad2/predictions.json', needs=('tuned-squad2',))
    yield case('score-rte', f'robertax.score --task=glue/rte --references='
               f'{self._tasks}/glue/RTE/dev.tsv --predictions={self._tasks}'
               '/glue/RTE/predictions.tsv')
    yield case('score-race', f'robertax.score --task=race --references='
               f'{self._tasks}/race/dev --predictions=w/tuned-race/'
               'predictions.dev.json', needs=('tuned-race',))
    yield Case('swept', 'doors', (
        'robertax.sweep', '--config=configs/glue.py:task=rte',
        '--workdir=w/swept', '--rates=1e-3', '--batches=8', '--seeds=2',
        '--best=2', *flags({
            'init_from': 'w/roberta_base', 'data.dir': f'{self._tasks}/glue',
            'data.sequence_length': 64, 'finetune.eval_tokens': 512,
            'data.cache_dir': 'caches/swept', 'finetune.epochs': 1})),
               files=('w/swept',), needs=base)
    yield Case('paper-1', 'doors', (
        'robertax.paper', '--table=1', f'--data={self._tasks}/paper',
        '--workdir=w/paper'), before='tiny_paper', hashed=True,
               files=('w/paper/results.json', 'w/paper/table.md'))
    yield case('again', 'robertax.main --config=configs/roberta_base.py '
               '--workdir=w/roberta_base ' + ' '.join(flags(
                   self._data('roberta_base') | SHORT)), needs=base)
    yield case('shown-run', 'robertax.prepare --show --workdir=w/roberta_base '
               '--step=4', needs=base)

  def wrong(self) -> Iterator[Case]:
    """Wrong input: a line on stderr, and exit code 2."""
    quick = '--config=configs/quickstart.py'
    run = f'{quick} --workdir=w/wrong '
    glue = f'--config.data.dir={self._tasks}/glue'
    rte = '--config=configs/glue.py:task=rte --workdir=w/wrong'
    cache = '--config.data.cache_dir=caches/wrong '
    tiny = ' '.join(flags(self._data('wrong')))
    text = '--config.data.corpora='
    table = {
        'main': [
            '', quick, run + '--config.train.stepz=3',
            run + '--config.train.steps=abc', run + '--wrkdir=y', run + 'stray',
            f'{quick}:stepz=3 --workdir=w/wrong',
            '--config=configs/none.py --workdir=w/wrong',
            run + cache + text + 'none.txt',
            *(run + cache + text + self._text[name]
              for name in ('wrong', 'bytes', 'empty')),
            *(f'{run}{tiny} --config.{pair}' for pair in (
                'task=gluee', 'seed=-1', 'train.steps=0', 'optim.name=adamm',
                'optim.schedule=cosinus', 'optim.learning_rate=-1.0',
                'optim.on_divergence=panic', 'data.format=full',
                'data.masks=dynamik', 'data.masking_unit=word',
                'data.masking_law=google', 'data.mask_rate=0.0',
                'data.backend=torch', 'data.sentences=no',
                'data.batch_size=7 --config.train.micro_batches=2',
                'data.sequence_length=128', 'data.mixture=plain=1,other=2',
                'data.document_filter=nowhere:none', 'data.max_predictions=5',
                'data.format=sentence_pair --config.data.pair_short_rate=.5',
                'model.vocab_size=77', 'model.num_heads=3', 'mesh.data=3',
                'model.dtype=float8', 'model.attention=flash',
                'model.remat=all', 'tokenizer.kind=unigram',
                'tokenizer.path=none.json', 'tokenizer.vocab_size=10',
                'train.profile_steps=x', 'train.allow_changed=all',
                'train.on_stall=cry', 'finetune.ranking_loss=none',
                'init_from=nowhere', 'init_from=hf:nowhere',
                'init_from=fairseq:nowhere.pt')),
            f'{rte} {glue}', f'{rte} --config.finetune.from_scratch=True',
            '--config=configs/glue.py:task=xyz --workdir=w/wrong',
            '--config=configs/squad.py:version=3 --workdir=w/wrong',
            '--config=configs/race.py:task=races --workdir=w/wrong',
            '--config=configs/wsc.py:task=wscs --workdir=w/wrong',
            '--config=configs/paper/table2.py:row=none --workdir=w/wrong'],
        'prepare': [
            '', f'{quick} --step=3', f'{quick} --folder=x', '--folder=x',
            '--verify --folder=nowhere', f'{quick} --show --memmap',
            f'{quick} --show --workdir=w/x', '--show --workdir=nowhere',
            f'{quick} --verify {cache}{text}{self._text["lines"]}',
            '--config=configs/glue.py', f'{quick} --show --step=-1 {tiny}'],
        'convert': ['', '--source=nowhere --target=hf:out/x', '--source=x',
                    '--source=hf:nowhere --target=w/x',
                    '--source=fairseq:none.pt --target=w/x'],
        'report': ['', '--workdir=nowhere', '--workdir=configs'],
        'aot': ['', quick, f'{quick} --topology=v9:2x2',
                f'{quick} --topology=v5e:3', f'{quick} --topology=cuda:x:1'],
        'score': [
            '', '--task=squad', '--task=nothing --references=x --predictions=y',
            '--task=squad --version=3 --references=x --predictions=y',
            '--task=squad --version=1.1 --references=x --predictions=y',
            f'--task=glue/rte --strict --references={self._tasks}/glue/RTE/'
            f'dev.tsv --predictions={self._tasks}/glue/RTE/predictions.tsv'],
        'sweep': ['', quick, f'{run} --rates=a',
                  f'{rte} {glue} --batches=x'],
        'paper': ['', '--table=99', '--table=1 --scale=huge',
                  '--table=1 --topology=v5e:2x2', '--table=1 --dry_run',
                  '--table=1 --data=nowhere --workdir=w/x']}
    for door, rows in table.items():
      for number, row in enumerate(rows):
        name = f'wrong-{door}-{number}'
        # No earlier case may leave files here, as the sides differ in order.
        row = row.replace('caches/wrong', f'caches/{name}').replace(
            'w/wrong', f'w/{name}')
        yield Case(name, 'doors', (f'robertax.{door}', *row.split()),
                   code=WRONG, fresh=number == len(rows) - 1)
    # An existing run, with another key and another tokenizer.
    yield Case('wrong-changed', 'doors', (
        'robertax.main', '--config=configs/roberta_base.py',
        '--workdir=w/roberta_base', *flags(self._data('roberta_base') | SHORT),
        '--config.optim.learning_rate=0.1'), code=WRONG,
               needs=('roberta_base',))


def chosen(cases: list[Case], parts: Iterable[str], slow: bool = False
           ) -> list[Case]:
  """Chooses the cases of these parts, and those that they need, in order.

  Args:
    cases: all cases.
    parts: names in PARTS.
    slow: whether to choose slow cases too.
  """
  known = {case.name: case for case in cases}
  if len(known) < len(cases):
    raise ValueError('two cases of one name')
  found: set[str] = set()

  def take(name):
    if name not in found:
      found.add(name)
      for before in known[name].needs:
        take(before)

  for case in cases:
    if case.part in parts and (slow or not case.slow):
      take(case.name)
  return [case for case in cases if case.name in found]


def rounds(cases: list[Case]) -> list[list[Case]]:
  """Groups cases that need not wait for the other side.

  A case comes after those that it needs.
  """
  groups: list[list[Case]] = []
  done: set[str] = set()
  left = list(cases)
  for number in sorted({case.round for case in cases}):
    group: list[Case] = []
    now = [case for case in left if case.round == number]
    while now:
      ready = [case for case in now if done.issuperset(case.needs)]
      if not ready:
        raise ValueError(f'{[case.name for case in now]} wait for each other')
      group += ready
      done |= {case.name for case in ready}
      now = [case for case in now if case.name not in done]
    groups.append(group)
  return groups
