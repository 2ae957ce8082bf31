"""What an evaluation prints."""

from robertax.train.evaluate import evaluation_table


def test_a_table_keeps_its_columns_when_a_run_diverges():
  metrics = {'eval/a/loss': 1.5, 'eval/a/perplexity': 1e134,
             'eval/b/loss': float('nan'), 'eval/b/perplexity': float('inf'),
             'eval/loss': 2.0, 'eval/perplexity': 7.25}
  lines = evaluation_table(metrics).splitlines()
  assert [line.split() for line in lines] == [
      ['evaluation', 'loss', 'perplexity'], ['a', '1.5000', '1e+134'],
      ['b', 'nan', 'inf'], ['all', '2.0000', '7.2500']]
  assert len({len(line) for line in lines}) == 1
