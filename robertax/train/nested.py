"""Pytrees as nested dicts and back: what a checkpoint holds has only names."""

from typing import Any

import jax


def as_dict(tree: Any) -> dict[str, Any]:
  """Any pytree as nested dicts: tuples and named tuples become dicts too.

  >>> as_dict(({'w': 1}, 2))
  {'0': {'w': 1}, '1': 2}
  """
  nested: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    *folders, last = [_name(key) for key in path]
    place = nested
    for folder in folders:
      place = place.setdefault(folder, {})
    place[last] = leaf
  return nested


def _name(key: Any) -> str:
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  raise TypeError(f'unknown kind of tree path: {key!r}')


def from_dict(nested: dict[str, Any], like: Any) -> Any:
  """The inverse of `as_dict`, with the structure of `like`."""
  paths, treedef = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, _ in paths:
    place = nested
    for key in path:
      place = place[_name(key)]
    leaves.append(place)
  return jax.tree_util.tree_unflatten(treedef, leaves)
