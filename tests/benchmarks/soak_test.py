import os
import random

from benchmarks import soak


def samples(mb_per_1000_steps=0.0, descriptors=lambda i: 9):
  draw = random.Random(0)
  return [{'seconds': 5. * i, 'step': 400 * i,
           **{f'{name}_mb': 900 + min(i, 50) + draw.uniform(-3, 3)
              + mb_per_1000_steps * .4 * i
              for name in ('rss', 'pss', 'anonymous')},
           'descriptors': descriptors(i) + draw.choice([0, 3]),
           'threads': 100 + draw.choice([0, 1])} for i in range(240)]


def test_what_grows_is_seen():
  flat = soak.judge(samples())
  assert flat['flat'] and abs(flat['rss_mb_per_1000_steps']) < .1
  assert (flat['descriptors_min'], flat['descriptors_max']) == (9, 12)
  leak = soak.judge(samples(1.2))
  assert not leak['flat'] and abs(leak['pss_mb_per_1000_steps'] - 1.2) < .1
  assert not soak.judge(samples(descriptors=lambda i: 9 + i // 30))['flat']


def test_a_sample_is_of_the_process():
  before = soak.sample(os.getpid())
  held = bytearray(os.urandom(50_000_000))
  with open(os.devnull):
    after = soak.sample(os.getpid())
  assert 40 < after['rss_mb'] - before['rss_mb'] < 110
  assert after['descriptors'] == before['descriptors'] + 1
  assert after['threads'] >= 1 and held
