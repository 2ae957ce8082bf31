"""Preparation on many machines: the local one's shards, as a Beam pipeline.

The machine that is asked reads all text once (surveys) and trains the tokenizer
if there is none; then the pipeline's elements are numbers of shards, and a
worker that has one reads its documents, tokenizes them into the store and packs
that into records, by the very functions of the local preparation
(corpus/filling.py). So bytes are the same, and shards that are finished,
whoever made them, are not made again. The manifest is written here, at the end.

What workers share is storage: text and data.cache_dir must be paths that all of
them see, gs:// or a mounted folder. For a shard's text a worker opens the files
that it lies in, and reads the first of them from its beginning: so give a large
corpus as many files, of a GB at most. Corpora without marks
(`documents.Corpus.mark`: TFDS, and all that is cleaned of duplicates) are read
up to the shard: these are better prepared on one machine.
"""

from collections.abc import Sequence
import re
import threading

from robertax import errors, paths
from robertax.corpus.filling import fill_records, fill_tokens
from robertax.corpus.preparation import Plan, plan
from robertax.errors import InputError

INSTALL = ("--beam needs the package apache-beam: pip install "
           "'apache-beam==2.77.0', or '.[beam]' in robertax's folder.")


def beam_module():
  """The apache_beam package.

  Raises:
    InputError: it is not installed.
  """
  try:
    import apache_beam
  except ModuleNotFoundError as e:
    raise InputError(INSTALL) from e
  return apache_beam


class Planned:
  """The plan, made anew on each worker from what the first machine kept.

  So a pipeline carries the config, a few hundred bytes, however long the text.
  """
  _plans: dict[str, Plan] = {}  # Of this process.
  _lock = threading.Lock()

  def __init__(self, data, tokenizer_config, **options):
    """Takes what `preparation.plan` takes."""
    self._arguments, self._options = (data, tokenizer_config), options

  def jobs(self):
    with self._lock:
      key = repr((self._arguments, self._options))
      if key not in self._plans:
        self._plans[key] = plan(*self._arguments, progress=False,
                                only_kept=True, **self._options)
      return self._plans[key].jobs


def fill(data, tokenizer_config, options: Sequence[str], progress: bool = True,
         **plan_options) -> None:
  """Makes all missing shards of all corpora; `prepare` then finishes them.

  Args:
    data, tokenizer_config: as for `preparation.prepare`.
    options: of Beam and its runner, as on a command line, such as
      ['--runner=DataflowRunner', '--project=p'].
    progress: show bars of what is done here.
    **plan_options: out, memmap, vocab_size, as for `prepare`.

  Raises:
    InputError: wrong input, here or on a worker; no Beam.
  """
  beam = beam_module()
  from apache_beam.options.pipeline_options import PipelineOptions
  jobs = plan(data, tokenizer_config, progress=progress, **plan_options).jobs
  elements = []
  for number, job in enumerate(jobs):
    if job.survey is None:
      continue  # Its records are finished.
    missing = job.without_records()
    elements += [(number, shard.split, shard.index, job.folder)
                 for shard in missing]
    for folder in {job.folder, job.store_folder} if missing else ():
      with errors.writing(folder):
        paths.makedirs(folder)
  if not elements:
    return
  planned = Planned(data, tokenizer_config, **plan_options)
  try:
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
      # Between two stages elements are dealt out anew, and what is done stays
      # done where a worker is lost.
      pipeline | 'Shards' >> beam.Create(elements) | (  # noqa: B018
          'Deal out' >> beam.Reshuffle()) | (
          'Tokenize' >> beam.Map(_tokenize, planned)) | (
          'Deal out again' >> beam.Reshuffle()) | (
          'Pack' >> beam.Map(_pack, planned))
  except Exception as e:
    # A worker's error comes as text, in the midst of much else.
    found = re.search(r'InputError: (.*)', str(e))
    if found is None:
      raise
    raise InputError(re.sub(r" \[while running '.*", '', found[1])) from e


def _tokenize(element, planned: Planned):
  job, shards = _find(element, planned)
  fill_tokens(job, [shard for shard in shards
                    if job.store.places(shard) is None], 1, False)
  return element


def _pack(element, planned: Planned):
  job, shards = _find(element, planned)
  fill_records(job, shards, 1, False)
  return element


def _find(element, planned: Planned):
  """The job and the shard, in a list, that an element stands for."""
  number, split, index, folder = element
  job = planned.jobs()[number]
  if job.folder != folder:
    raise InputError(
        f'{job.corpus.name}: this worker sees other text or another tokenizer '
        f'than the machine that was asked: {job.folder}, not {folder}.')
  if job.survey is None:  # Finished meanwhile, by someone else.
    return job, []
  return job, [shard for shard in job.shards()
               if (shard.split, shard.index) == (split, index)]
