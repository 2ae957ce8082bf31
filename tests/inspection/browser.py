"""A real browser, where one is installed: what it says of a page."""

import json
import os
import shutil
import subprocess
from typing import NamedTuple
from urllib.parse import urlsplit

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
PHONE = 390  # Pixels across.
# The browser's own errands; the name resolver below sends none of them out.
OWN = ('google.com', 'googleapis.com', 'gstatic.com', 'gvt1.com')
_FRAME = '''<!DOCTYPE html><html><head><title>waiting</title></head>
<body style="margin:0"><iframe id="f" style="width:%dpx;height:800px;border:0">
</iframe><script>
const f = document.getElementById('f');
f.onload = () => {
  const d = f.contentDocument; document.title = JSON.stringify({
  width: d.documentElement.scrollWidth,
  sections: d.querySelectorAll('section').length,
  headings: [...d.querySelectorAll('h2')].map(x => x.textContent),
  figures: d.querySelectorAll('svg[role=img]').length,
  scripts: d.scripts.length}); };
f.src = %s;
</script></body></html>'''


class Seen(NamedTuple):
  """What came of opening a page.

  Attributes:
    page: facts of its document, at a phone's width.
    console: lines that the browser's console has.
    requests: addresses that the page has asked for, files aside.
  """
  page: dict
  console: list[str]
  requests: set[str]


def installed() -> str | None:
  """The browser's path."""
  return next(filter(None, map(shutil.which, NAMES)), None)


def look(path, folder) -> Seen:
  """Opens a page in a frame as wide as a phone; nothing leaves the machine."""
  frame = folder / 'frame.html'
  frame.write_text(_FRAME % (PHONE, json.dumps(f'file://{path}')))
  done = subprocess.run(
      [installed(), '--headless', '--no-sandbox', '--disable-gpu',
       '--disable-dev-shm-usage', '--no-first-run', '--hide-scrollbars',
       '--enable-logging=stderr',
       f'--user-data-dir={folder}/profile', '--disable-background-networking',
       '--host-resolver-rules=MAP * ~NOTFOUND',
       '--allow-file-access-from-files', f'--log-net-log={folder}/net.json',
       '--virtual-time-budget=5000', '--dump-dom', f'file://{frame}'],
      capture_output=True, text=True, timeout=120, env=os.environ | {
          'HOME': str(folder), 'XDG_CACHE_HOME': str(folder)})
  assert done.returncode == 0, done.stderr[-2000:]
  title = done.stdout.split('<title>')[1].split('</title>')[0]
  log = (folder / 'net.json').read_text().rstrip()
  try:
    events = json.loads(log)['events']
  except ValueError:  # Its end is not written where the browser leaves early.
    events = json.loads(log.rstrip(',') + ']}')['events']
  asked = [event['params'] for event in events
           if isinstance(event.get('params'), dict)]
  found = {params['url'] for params in asked if 'url' in params}
  return Seen(
      json.loads(title),
      [line for line in done.stderr.splitlines() if 'CONSOLE' in line],
      {url for url in found if not url.startswith(('file:', 'data:', 'about:'))
       and not (urlsplit(url).hostname or '').endswith(OWN)})
