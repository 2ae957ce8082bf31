"""Text data sets of TFDS as corpora: `tfds:NAME[/CONFIG]`, `tfds:FOLDER`.

Data sets must be prepared. Nothing is downloaded, since that may take days; an
error shows the command.
"""

from collections import Counter
from collections.abc import Iterator
import os

from robertax import files
from robertax.corpus.readers import Reading, cut, unix_lines
from robertax.corpus.records import import_tensorflow
from robertax.errors import InputError, first_line


class TfdsText:
  """The documents of one split, in the order of its files.

  Attributes:
    name: the name of the data set, without its config.
    config: the name of its config, or '' if it has none.
    files: paths of the split's files.
    places: what tells it from other text: the folder and split.
    counts, size, position: as in `documents.Corpus`; the position is estimated
      from the number of documents.
  """

  def __init__(self, source: str, text_field: str = 'text',
               invalid_utf8: str = 'error', split: str = 'train',
               data_dir: str = '', max_document_chars: int = 0):
    """Finds a data set, NAME[/CONFIG][:VERSION] or FOLDER.

    Other arguments are as in DataConfig; `split` has TFDS's syntax, such as
    `train[:10%]` or `train+test`. InputError if TFDS is not installed, or the
    data set, split or feature does not exist or is not prepared.
    """
    self._source, self._split = f'tfds:{source}', split
    self._builder = _open(source, data_dir)
    info = self._builder.info
    try:
      self._info = info.splits[split]
    except (KeyError, ValueError) as e:
      raise InputError(
          f'data.corpora: {self._source}: no split {split!r}: it has '
          f'{", ".join(info.splits) or "none"}; data.split chooses one.') from e
    self._check(info.features, text_field)
    self.name = self._builder.name
    chosen = getattr(self._builder, 'builder_config', None)
    self.config = (getattr(chosen, 'name', '') or '').replace('/', '-')
    self.files = list(dict.fromkeys(map(str, self._info.filepaths)))
    self.counts, self.position = Counter(), 0
    self.size = sum(files.stat(path).size for path in self.files)
    self._field, self._replace = text_field, invalid_utf8 == 'replace'
    self._most = max_document_chars
    self.places = [f'{os.path.dirname(path)}@{split}'
                   for path in self.files[:1]]

  def _check(self, features, field: str) -> None:
    known = list(features) if hasattr(features, 'keys') else []
    if field not in known:
      raise InputError(
          f'data.corpora: {self._source}: no feature {field!r}; its features '
          f'are {", ".join(map(repr, known)) or "none"}. data.text_field names '
          'the one with the text.')
    feature = features[field]
    if feature.shape or feature.np_dtype not in (object, str, bytes):
      raise InputError(f'data.corpora: {self._source}: the feature {field!r} '
                       f'should be text, found {feature}.')

  def fingerprint(self) -> str:
    """Hashes the files' paths, sizes and times, the split and the field."""
    facts = [(files.absolute(path), *files.stat(path)) for path in self.files]
    return files.json_hash([facts, self._split, self._field, self._replace,
                            *([self._most] if self._most else [])])

  def documents(self) -> Iterator[str]:
    """Yields the documents from the start; see `documents.Corpus`."""
    return cut(self._whole_documents(), self._most, self.counts)

  def _whole_documents(self) -> Iterator[str]:
    self.counts.clear()
    self.position = 0
    reading = Reading(self._source, self._field, self._replace, self.counts,
                      int, self.size)
    number = 0
    for number, value in enumerate(self._values(), 1):
      text = reading.decode(
          value if isinstance(value, bytes) else str(value).encode(),
          'example', number)
      if text and not text.isspace():
        yield unix_lines(text)
      else:
        self.counts['empty_documents'] += 1
      self.position = min(self.size, self.size * number
                          // max(1, self._info.num_examples))
    if number != self._info.num_examples:
      # TFDS's reader does not report a truncated file.
      raise InputError(
          f'data.corpora: {self._source}: cannot be read whole: {number:,} of '
          f'{self._info.num_examples:,} examples were found in '
          f'{", ".join(self.files[:3])}: damaged? Prepare it again.')
    self.position = self.size

  def _values(self) -> Iterator[bytes]:
    tfds = import_tfds(self._source)
    try:
      # Each file format has only one of these two readers.
      if self._builder.info.file_format.value == 'array_record':
        rows = self._builder.as_data_source(split=self._split)
        yield from (rows[i][self._field] for i in range(len(rows)))
      else:
        import_tensorflow()
        rows = self._builder.as_dataset(
            split=self._split, shuffle_files=False,
            decoders=tfds.decode.PartialDecoding({self._field: True}),
            # Files are read one after another, so the order is always the same.
            read_config=tfds.ReadConfig(interleave_cycle_length=1,
                                        try_autocache=False))
        yield from (row[self._field] for row in tfds.as_numpy(rows))
    except (InputError, GeneratorExit):
      raise
    except Exception as e:  # TFDS and tf.data raise many kinds.
      raise InputError(f'data.corpora: {self._source}: cannot be read '
                       f'({type(e).__name__}: {first_line(e)}).') from e


def _open(name: str, data_dir: str):
  """Returns the builder of a prepared data set."""
  tfds = import_tfds(f'tfds:{name}')
  where = {'data_dir': files.absolute(data_dir)} if data_dir else {}
  folder = files.absolute(name)
  is_folder = files.exists(os.path.join(folder, 'dataset_info.json'))
  if not is_folder and (files.is_remote(name) or name[:1] in ('/', '~', '.')):
    raise InputError(f'data.corpora: tfds:{name}: holds no dataset_info.json: '
                     'not a folder of a prepared TFDS data set.')
  try:
    builder = (tfds.builder_from_directory(folder) if is_folder
               else tfds.builder(name, **where))
    prepared = builder.is_prepared()
  except Exception as e:  # TFDS raises many kinds for a wrong name.
    raise InputError(f'data.corpora: tfds:{name}: {first_line(e)} '
                     'data.tfds_dir, or TFDS_DATA_DIR, is the folder of '
                     'prepared data sets.') from e
  if not prepared:
    config = builder.builder_config
    full = f'{builder.name}/{config.name}' if config else builder.name
    raise InputError(
        f'data.corpora: tfds:{name}: {builder.info.full_name} is not prepared '
        f'in {builder.data_dir_root}, and robertax does not download it '
        f'(download: {builder.info.download_size}). Run: tfds build '
        f'{full} --data_dir={builder.data_dir_root}; then run the same command '
        'again. data.tfds_dir, or TFDS_DATA_DIR, chooses another folder.')
  return builder


def import_tfds(name: str):
  """Imports tensorflow_datasets to read `name`; InputError if not installed."""
  try:
    import tensorflow_datasets
  except ImportError as e:
    raise InputError(f'{name} needs tensorflow_datasets: pip install '
                     'tensorflow-datasets.') from e
  return tensorflow_datasets
