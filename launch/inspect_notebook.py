"""The functions that the cells of inspect.ipynb call.

They show learning curves, the attention of a text, a cloze test, corpora and
their most frequent tokens, neighbours in the embedding table, and the sharding
of parameters over a mesh.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import math
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh, PartitionSpec
import numpy as np

from robertax import corpus
from robertax import model as modelling
from robertax.config import AXES, ModelConfig
from robertax.data.pipeline import unigram_counts
from robertax.data.source import open_source
from robertax.errors import InputError
from robertax.inspection import page, run_log
from robertax.inspection.batches import Marker
from robertax.inspection.model import MASK, Model, masked_text, target_id
from robertax.inspection.network import row_batches, with_ends
from robertax.inspection.page import Table
from robertax.parallel.mesh import BATCH_AXES, param_shardings
from robertax.train import workdir

COUNTED = 16_384  # Rows of a corpus whose tokens are counted.
# The parameters in a picture of a mesh, one of each kind of sharding.
SHOWN = ('embeddings/tokens', 'layers/attention/query/kernel',
         'layers/attention/output/kernel', 'layers/mlp_in/kernel',
         'layers/mlp_out/kernel', 'layers/mlp_norm/scale')


class Curves:
  """Figures that a notebook shows, as HTML."""

  def __init__(self, figures: Sequence[str]):
    self.figures = tuple(filter(None, figures))

  def _repr_html_(self) -> str:
    return ('<div style="display:grid;gap:14px;grid-template-columns:'
            'repeat(auto-fit,minmax(min(100%,400px),1fr))">'
            f'{"".join(self.figures)}</div>')


def learning_curves(*workdirs: str) -> Curves:
  """Draws the metrics of runs, with several runs in one figure.

  >>> learning_curves('runs/a', 'runs/b')

  Raises:
    InputError: a path is not a workdir with logged steps.
  """
  runs = [run_log.read_run(path) for path in workdirs]
  return Curves(run_log.run_figures(runs[0]) if len(runs) == 1 else
                run_log.compared_figures(runs))


@dataclasses.dataclass(frozen=True)
class AttentionMap:
  """The attention of one text; a notebook shows all layers and heads.

  Attributes:
    tokens: the text's T tokens, <s> and </s> included.
    probabilities: float32[N, H, T, T]: [n, h, t] are the weights with which
      token t attends to each token in head h of layer n; they sum to 1.
  """
  tokens: list[str]
  probabilities: np.ndarray

  def picture(self, layer: int, head: int) -> page.Picture:
    """Draws one head with its tokens; negative numbers count from the last.

    Raises:
      InputError: there is no such layer or head.
    """
    for name, value, count in (('layer', layer, len(self.probabilities)),
                               ('head', head, self.probabilities.shape[1])):
      if not -count <= value < count:
        raise InputError(f'{name}={value}: there are {count}, from 0.')
    size = min(2.2 + .3 * len(self.tokens), 14)
    figure = page.blank_figure(size + .8, size)
    axes = figure.subplots()
    image = axes.imshow(self.probabilities[layer, head], cmap='viridis',
                        vmin=0, vmax=1)
    names = [token.strip() or '␣' for token in self.tokens]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel='looked at', ylabel='token')
    axes.set_title(f'layer {layer % len(self.probabilities)}, '
                   f'head {head % self.probabilities.shape[1]}', fontsize=11)
    figure.colorbar(image, ax=axes, shrink=.7, label='probability')
    return page.Picture(figure)

  def overview(self) -> page.Picture:
    """Draws all heads as small maps: a row per layer, a column per head."""
    layers, heads = self.probabilities.shape[:2]
    figure = page.blank_figure(min(1.25 * heads + .8, 16),
                               min(1.25 * layers + .8, 24))
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
      for head in range(heads):
        axes = grid[layer, head]
        axes.imshow(self.probabilities[layer, head], cmap='viridis', vmin=0,
                    vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        if layer == 0:
          axes.set_title(f'head {head}', fontsize=9)
        if head == 0:
          axes.set_ylabel(f'layer {layer}', fontsize=9)
    return page.Picture(figure)

  def _repr_png_(self) -> bytes:
    return self.overview()._repr_png_()


def attention(model: Model, text: str) -> AttentionMap:
  """Computes the attention of every layer and head for one text.

  The kernels never store these numbers, so they are recomputed here from each
  layer's input, as in `kernels.attention.xla`.

  Args:
    model: from `robertax.load`.
    text: the text, which may have masks.

  Raises:
    InputError: the text has more tokens than the model has positions.
  """
  tok = model.tokenizer
  for name in tok.mask_texts:
    text = text.replace(name, MASK)
  row = with_ends(tok, tok.encode(text, allow_mask=True),
                  model.config.max_positions, text)
  ((_, input_ids, segment_ids),) = row_batches(
      [row], tok.pad_id, model.config.max_positions, len(row))
  states = model.states(input_ids, segment_ids, all_layers=True)
  x_NTD = states[:-1, 0, :len(row)]  # Each layer's input.
  weights = model.params['layers']['attention']

  def project(name: str) -> np.ndarray:
    kernel_NDHK = np.asarray(weights[name]['kernel'])
    bias_NHK = np.asarray(weights[name]['bias'])
    return np.einsum('NTD,NDHK->NHTK', x_NTD, kernel_NDHK,
                     optimize=True) + bias_NHK[:, :, None]

  q_NHTK, k_NHSK = project('query'), project('key')
  scores_NHTS = q_NHTK @ k_NHSK.swapaxes(-1, -2) * q_NHTK.shape[-1]**-.5
  scores_NHTS -= scores_NHTS.max(-1, keepdims=True)
  probs_NHTS = np.exp(scores_NHTS)
  probs_NHTS /= probs_NHTS.sum(-1, keepdims=True)
  return AttentionMap([tok.token_text(i) for i in row], probs_NHTS)


def cloze(model: Model, questions: Iterable[tuple[str, str]]) -> Table:
  """Gives the right words' probabilities, and their ranks in the vocabulary.

  >>> cloze(model, [('The capital of <mask> is Paris.', 'France')])

  Args:
    model: from `robertax.load`.
    questions: (text with one mask, the word). A word of several tokens cannot
      be guessed; it has no rank and is not counted.

  Raises:
    InputError: a text is too long, or does not have exactly one mask.
  """
  tok, rows, ranks = model.tokenizer, [], []
  for text, word in questions:
    question = masked_text(model, text)
    if len(question.places) != 1:
      raise InputError(f'a cloze question has one {MASK}, found '
                       f'{len(question.places)}: {text[:80]!r}.')
    (best,) = model.fill_mask(text, top_k=1)
    before = question.text.split(MASK)[0]
    guess = [best.token.strip(), f'{best.probability:.1%}']
    try:
      token = target_id(tok, word, before)
    except InputError:
      rows.append((text, word, 'not one token', '', *guess))
      continue
    (found,) = model.fill_mask(text, targets=[word])
    ((_, input_ids, segment_ids),) = row_batches(
        [question.ids], tok.pad_id, model.config.max_positions,
        len(question.ids))
    log_probs = model.log_probs(input_ids, segment_ids,
                                question.places[None].astype(np.int32))[0, 0]
    ranks.append(1 + int((log_probs > log_probs[token]).sum()))
    rows.append((text, word, f'{ranks[-1]:,}', f'{found.probability:.1%}',
                 *guess))
  right = sum(rank == 1 for rank in ranks)
  note = (f'{right} of {len(ranks)} guessed right; median rank '
          f'{np.median(ranks):g} of {model.config.vocab_size:,}.'
          if ranks else 'None of the words is one token of this model.')
  return Table(('text', 'word', 'rank', 'probability', 'best guess', 'its'),
               rows, note)


class CorpusView(NamedTuple):
  """Tables of a run's corpora."""
  sizes: Table  # Documents, sentences, rows, tokens and padding per corpus.
  examples: Table  # Decoded examples of the eval split.
  tokens: Table  # The most frequent tokens of each corpus.


def corpora(path: str, examples: int = 3, top_k: int = 20) -> CorpusView:
  """Shows the corpora of a run, after preparing missing records.

  Args:
    path: the workdir.
    examples: number of examples from each corpus's eval split, evenly spread.
    top_k: number of tokens of each corpus.

  Raises:
    InputError: the path is not a workdir, its task has no corpora, or its text
      is gone.
  """
  config = workdir.read_config(path)
  if config is None:
    raise InputError(f'{path!r} is not a workdir of robertax: it has no '
                     'config.json.')
  if config.task != 'pretrain':
    raise InputError(f'{path!r} has task {config.task!r}: only pretraining '
                     'reads corpora.')
  prepared = corpus.prepare(config.data, config.tokenizer,
                            vocab_size=config.model.vocab_size)
  tok, marker = prepared.tokenizer, Marker(prepared.tokenizer)
  sizes, texts, tokens = [], [], []
  for manifest in prepared.manifests:
    train, held = manifest.splits['train'], manifest.splits['eval']
    sizes.append((
        manifest.corpus, train.num_documents, held.num_documents,
        train.num_sentences, train.num_records, train.num_tokens,
        f'{manifest.counts.get("padding_fraction", 0):.1%}'))
    source = open_source([manifest], 'eval', config.data.backend,
                         tok.pad_id, config.data)
    for number in range(min(examples, source.num_records)):
      index = (2 * number + 1) * source.num_records // (2 * examples)
      rows = source.gather(np.array([index]))
      texts.append((manifest.corpus, int(rows.lengths[0, 0]),
                    marker.text(rows.ids[0][:rows.lengths[0, 0]])))
    counts = unigram_counts(
        open_source([manifest], 'train', config.data.backend, tok.pad_id,
                    config.data), tok.vocab_size, COUNTED)
    best = np.argsort(-counts, kind='stable')[:top_k]
    tokens.append((manifest.corpus, ', '.join(
        f'{tok.token_text(int(i))!r} {counts[i] / counts.sum():.1%}'
        for i in best if counts[i])))
  return CorpusView(
      Table(('corpus', 'documents', 'held out', 'sentences', 'rows', 'tokens',
             'padding'), sizes),
      Table(('corpus', 'tokens', 'held-out example'), texts),
      Table(('corpus', 'most frequent tokens, with their share'), tokens))


def nearest(model: Model, words: str | Sequence[str], top_k: int = 8) -> Table:
  """Finds the tokens nearest to words, by the cosine of their embeddings.

  Special tokens are left out.

  Args:
    model: from `robertax.load`.
    words: one word or several, each tokenized as after a space; the table says
      which have several tokens.
    top_k: number of tokens per word.

  Raises:
    InputError: top_k is not from 1 to the size of the vocabulary - 1.
  """
  tok = model.tokenizer
  if not 1 <= top_k < model.config.vocab_size:
    raise InputError(
        f'top_k={top_k}: from 1 to {model.config.vocab_size - 1}.')
  table_VD = np.asarray(model.params['embeddings']['tokens'], np.float32)
  table_VD = table_VD / np.maximum(
      np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)
  rows = []
  for word in [words] if isinstance(words, str) else words:
    try:
      token = target_id(tok, word, ' ')
    except InputError:
      rows.append((word, 'not one token of this model'))
      continue
    cosines_V = table_VD @ table_VD[token]
    cosines_V[[token, *tok.special_ids]] = -np.inf
    best = np.argsort(-cosines_V, kind='stable')[:top_k]
    rows.append((word, ', '.join(
        f'{tok.token_text(int(i)).strip()} {cosines_V[i]:.2f}' for i in best
        if np.isfinite(cosines_V[i]))))
  return Table(('token', 'nearest, with the cosine'), rows)


@dataclasses.dataclass(frozen=True)
class Placement:
  """The sharding of one array over a mesh."""
  path: str  # Such as 'embeddings/tokens'.
  shape: tuple[int, ...]  # The shape of the whole array.
  axes: tuple[tuple[str, ...], ...]  # The mesh axes that split each dim.
  mesh: dict[str, int]  # {'data': 1, 'fsdp': 16, 'model': 16}.

  @property
  def split(self) -> tuple[int, ...]:
    """The number of parts along each dim."""
    return tuple(math.prod(self.mesh[a] for a in axes) for axes in self.axes)

  @property
  def part(self) -> tuple[int, ...]:
    """The shape of one device's part."""
    return tuple(n // k for n, k in zip(self.shape, self.split))

  @property
  def parts(self) -> int:
    """The number of different parts."""
    return math.prod(self.split)

  @property
  def copies(self) -> int:
    """The number of devices that hold the same part."""
    return math.prod(self.mesh.values()) // self.parts

  def places(self) -> np.ndarray:
    """int[dims, data, fsdp, model]: each device's part along each dim."""
    sizes = tuple(self.mesh[axis] for axis in AXES)
    along = dict(zip(AXES, np.indices(sizes)))
    found = np.zeros((len(self.shape), *sizes), int)
    for here, axes in zip(found, self.axes):
      for axis in axes:  # The first of several axes changes slowest.
        here[...] = here * self.mesh[axis] + along[axis]
    return found

  def numbers(self) -> np.ndarray:
    """int[data, fsdp, model]: each device's part, in row-major order."""
    number = np.zeros(tuple(self.mesh[axis] for axis in AXES), int)
    for here, cut in zip(self.places(), self.split):
      number = number * cut + here
    return number


def placements(config: ModelConfig, data: int = 1, fsdp: int = 1,
               model: int = 1) -> list[Placement]:
  """The placements of all parameters, with the vocabulary padded as in a run.

  Args:
    config: the `model` section, with vocab_size filled in.
    data, fsdp, model: devices along each axis of the mesh.

  Raises:
    InputError: these numbers do not divide a parameter, which it names.
  """
  mesh = AbstractMesh((data, fsdp, model), AXES)
  shapes = jax.eval_shape(lambda: modelling.pad_vocabulary(
      modelling.create(config, jax.random.key(0))))
  found = []
  for (path, leaf), (_, sharding) in zip(*map(
      jax.tree_util.tree_leaves_with_path,
      (shapes, param_shardings(mesh, shapes)))):
    found.append(_placement(
        jax.tree_util.keystr(path, simple=True, separator='/'), leaf.shape,
        sharding.spec, mesh))
  return found


def placement_table(config: ModelConfig, data: int = 1, fsdp: int = 1,
                    model: int = 1) -> Table:
  """Lists all parameters with shape, part and float32 MiB; see `placements`."""
  found = placements(config, data, fsdp, model)
  rows = [(p.path, list(p.shape), _sharding_text(p), list(p.part), p.copies,
           f'{4 * math.prod(p.part) / 2**20:,.3f}') for p in found]
  whole = sum(math.prod(p.shape) for p in found)
  each = sum(math.prod(p.part) for p in found)
  return Table(
      ('parameter', 'shape', 'split along', 'part', 'copies', 'MiB'),
      rows,
      f'{whole / 1e6:,.1f}M parameters, {4 * whole / 2**20:,.1f} MiB; on each '
      f'of {data * fsdp * model} devices {4 * each / 2**20:,.1f} MiB. Adam '
      'keeps twice as much again.')


def placement_picture(config: ModelConfig, data: int = 1, fsdp: int = 1,
                      model: int = 1,
                      paths: Sequence[str] = SHOWN) -> page.Picture:
  """Draws the mesh as a grid of devices, once for each array.

  Devices with the same colour hold the same part. The grid follows the config's
  mesh, not the wiring of the chips: rows are data and fsdp, columns are model;
  without a model axis rows are data and columns fsdp.

  Args:
    config, data, fsdp, model: as for `placements`.
    paths: parameters to draw; a batch comes last.
  """
  found = {p.path: p for p in placements(config, data, fsdp, model)}
  drawn = [found[path] for path in paths if path in found]
  rows = data * fsdp
  drawn.append(_placement(
      'a batch', (8 * rows, config.max_positions), (BATCH_AXES,),
      AbstractMesh((data, fsdp, model), AXES)))
  columns = min(len(drawn), 4)
  lines = -(-len(drawn) // columns)
  figure = page.blank_figure(3.1 * columns, 3.5 * lines)
  grid = figure.subplots(lines, columns, squeeze=False).ravel()
  shape = (rows, model) if model > 1 else (data, fsdp)
  names = (('fsdp' if data == 1 else 'data' if fsdp == 1 else 'data x fsdp',
            'model') if model > 1 else ('data', 'fsdp'))
  for axes in grid[len(drawn):]:
    axes.set_axis_off()
  for axes, one in zip(grid, drawn):
    axes.imshow(_placement_colours(one).reshape(*shape, 3),
                extent=(0, shape[1], shape[0], 0))
    for line in range(1, max(shape)):
      if line < shape[1]:
        axes.axvline(line, color='white', linewidth=.5)
      if line < shape[0]:
        axes.axhline(line, color='white', linewidth=.5)
    axes.set(xlabel=names[1], ylabel=names[0])
    axes.set_title(f'{one.path}\n{list(one.shape)} -> {list(one.part)}\n'
                   f'{one.parts} different parts, each on {one.copies}',
                   fontsize=8)
  return page.Picture(figure)


def _placement_colours(placement: Placement) -> np.ndarray:
  """float[data, fsdp, model, 3]: each part has its own colour.

  The first dim that is split gives the hue, the others make it paler.
  """
  from matplotlib import colormaps
  first, paler = np.zeros((2, *placement.numbers().shape))
  cut = [(here, n) for here, n in zip(placement.places(), placement.split)
         if n > 1]
  if cut:
    first = cut[0][0] / (cut[0][1] - 1)
  for here, n in cut[1:]:
    paler = paler + here / (n - 1) / len(cut[1:])
  colour = colormaps['viridis'](first)[..., :3]
  return colour + (1 - colour) * .75 * paler[..., None]


def _placement(path: str, shape: Sequence[int], spec: PartitionSpec,
               mesh: AbstractMesh) -> Placement:
  axes = [() if entry is None else entry if isinstance(entry, tuple) else
          (entry,) for entry in spec]
  axes += [()] * (len(shape) - len(axes))
  return Placement(path, tuple(shape), tuple(axes), dict(mesh.shape))


def _sharding_text(placement: Placement) -> str:
  return ', '.join(f'{"+".join(axes)} (dim {dim})'
                   for dim, axes in enumerate(placement.axes) if axes) or 'none'
