"""launch/corpora: sound scripts, filters that tell, and a check that counts."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from launch.corpora import check, filters

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / 'launch/corpora').glob('*.sh'))
ids = dict(ids=lambda path: path.name)


def run(*command, **env):
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                        timeout=60, env=os.environ | env)


def test_there_is_a_script_for_each_corpus():
  assert {path.stem for path in SCRIPTS} == set(check.PAPER)
  said = (ROOT / 'launch/corpora/README.md').read_text()
  for path in SCRIPTS:
    assert f'launch/corpora/{path.name}' in said


@pytest.mark.parametrize('path', SCRIPTS, **ids)
def test_shellcheck(path):
  beside = pathlib.Path(sys.executable).parent / 'shellcheck'
  shellcheck = str(beside) if beside.exists() else shutil.which('shellcheck')
  if not shellcheck:
    pytest.skip('no shellcheck: pip install -r requirements-test.txt')
  done = run(shellcheck, path)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('path', SCRIPTS, **ids)
def test_without_a_folder_it_says_how(path):
  done = run('bash', path)
  assert done.returncode == 2 and f'{path.name} [--dry_run] DIR' in done.stderr


@pytest.mark.parametrize('path', SCRIPTS, **ids)
def test_a_dry_run_does_nothing(path, tmp_path):
  done = run('bash', path, '--dry_run', f'{tmp_path}/my data')
  assert done.returncode == 0, done.stderr
  assert re.search(r'^(hf download|curl --fail)', done.stdout, re.M)
  assert 'my\\ data' in done.stdout and not list(tmp_path.iterdir())


def test_the_months_of_the_paper(tmp_path):
  said = run('bash', ROOT / 'launch/corpora/cc_news.sh', '--dry_run',
             str(tmp_path)).stdout
  months = re.findall(r'CC-NEWS/(\d+/\d+)/', said)
  assert (months[0], months[-1], len(months)) == ('2016/09', '2019/02', 30)


CURL = '''#!/bin/bash
# Stands in for curl: a file is its own address.
while (($#)); do
  if [[ $1 == --output ]]; then out=$2; shift; fi
  url=$1; shift
done
echo "$url" >> {calls}
case $url in
  */warc.paths.gz) printf 'crawl-data/x/a.warc.gz\\ncrawl-data/x/b.warc.gz\\n' \
      | gzip > "$out" ;;
  *) echo "$url" > "$out" ;;
esac
'''


def test_what_is_there_is_not_fetched_again(tmp_path):
  calls = tmp_path / 'calls'
  (tmp_path / 'curl').write_text(CURL.format(calls=calls))
  (tmp_path / 'curl').chmod(0o755)
  for _ in range(2):
    done = run('bash', ROOT / 'launch/corpora/cc_news.sh', f'{tmp_path}/d',
               '2018/01', PATH=f'{tmp_path}:{os.environ["PATH"]}')
    assert done.returncode == 0, done.stderr
  assert calls.read_text().count('a.warc.gz') == 1
  assert sorted(p.name for p in (tmp_path / 'd/cc_news').iterdir()) == [
      '2018-01.paths.gz', 'a.warc.gz', 'b.warc.gz']


def test_a_dump_of_another_sum_is_not_taken(tmp_path):
  (tmp_path / 'curl').write_text(CURL.format(calls=tmp_path / 'calls'))
  (tmp_path / 'curl').chmod(0o755)
  done = run('bash', ROOT / 'launch/corpora/wikipedia.sh', f'{tmp_path}/d',
             PATH=f'{tmp_path}:{os.environ["PATH"]}')
  assert done.returncode == 1 and 'not the file' in done.stderr


ENGLISH = ('The house stood on a hill, and from its windows you could see all '
           'of the valley and the river that ran through it to the sea. ')
GERMAN = ('Das Haus stand auf einem Hügel, und von seinen Fenstern aus sah man '
          'das ganze Tal und den Fluss, der hindurch zum Meer lief. ')
DUTCH = ('Het huis stond op een heuvel, en uit de ramen zag je het hele dal en '
         'de rivier die erdoorheen naar de zee liep. ')
STORY = ('"I saw him," she said, and she turned to her brother. He looked at '
         'her and laughed. I knew that he felt as I did. ')


def test_filters():
  assert filters.is_english(ENGLISH) and filters.is_english(STORY)
  for text in (GERMAN, DUTCH, '', 'Home News Sport Weather Login ' * 10,
               '日本語の文章です。' * 20, '1 2 3'):
    assert not filters.is_english(text)
  assert filters.is_story(STORY * 20)
  assert not filters.is_story(ENGLISH * 20) and not filters.is_story(STORY)


def write(folder, corpus, size, documents=10):
  folder.mkdir(parents=True)
  (folder / 'manifest.json').write_text(json.dumps(dict(
      corpus=corpus, counts=dict(characters=size - 1, utf8_bytes=size),
      splits=dict(train=dict(num_documents=documents),
                  eval=dict(num_documents=1)))))


def test_the_check_counts_and_names_what_is_missing(tmp_path, capsys):
  write(tmp_path / 'a', 'pg19', 4 * 10**9)
  write(tmp_path / 'b', 'enwiki-latest-pages-articles', 12 * 10**9)
  write(tmp_path / 'b2', 'enwiki-latest-pages-articles', 12 * 10**9)
  write(tmp_path / 'c', 'cc_news', 30 * 10**9)
  write(tmp_path / 'd', 'python', 10**7)
  assert check.main([str(tmp_path)]) == 1
  said = capsys.readouterr().out
  assert re.search(r'wikipedia +12.00 +12 +100% +11\n', said)
  assert re.search(r'cc_news +30.00 +76 +39% +11\n', said)
  assert re.search(r'together +46.00 +161 +29%', said)
  assert 'cc_news: less than half, see launch/corpora/cc_news.sh' in said
  assert 'stories: missing' in said and 'python: 0.01 GB, none of' in said
  for name, size in dict(mine=76, openwebtext=38, stories=31).items():
    write(tmp_path / name, name, size * 10**9)
  assert check.main(['--names=cc_news=mine', str(tmp_path)]) == 0
  said = capsys.readouterr().out
  assert re.search(r'cc_news +76.00', said)
  assert 'cc_news: 30.00 GB, none of' in said


def test_the_checks_arguments(tmp_path, capsys):
  for wrong in ([], ['--names=x=y', str(tmp_path)], ['--help']):
    assert check.main(wrong) == 2
    assert 'FOLDER' in capsys.readouterr().err
  with pytest.raises(SystemExit, match='no records there'):
    check.main([str(tmp_path)])


def test_the_check_reads_real_records(tmp_path, capsys):
  from robertax import corpus
  from robertax.config import DataConfig, TokenizerConfig

  text = 'Ein Fluß. Noch ein Satz.\n\n' * 30
  (tmp_path / 'books.txt').write_text(text)
  corpus.prepare(
      DataConfig(corpora=f'{tmp_path}/books.txt', cache_dir=str(tmp_path / 'c'),
                 sequence_length=32, workers=1),
      TokenizerConfig(vocab_size=300), progress=False)
  assert check.main([f'{tmp_path}/c/records']) == 1
  assert re.search(r'books +0.00 .* 30\n', capsys.readouterr().out)
