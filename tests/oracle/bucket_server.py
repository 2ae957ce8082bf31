"""A bucket of Google's on this machine: `python bucket_server.py FOLDER NAME`.

gcp-storage-emulator, and what of the protocol the clients here rely on and it
lacks: the generation of an object beside its bytes, and conditions on it
(tensorstore, orbax), the ends of a list (tensorstore), moveTo (gcsfs), a
bucket's layout, empty bodies and chunked ones (tensorflow). Tensorflow knows no
address but Google's: it comes here as through a proxy, which shows a
certificate of its own.

Prints its address; FOLDER/ca.pem is the certificate.
"""

import datetime
import functools
import http
from http import server as http_server
import ssl
import sys
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

_BUCKET = r'^/storage/v1/b/(?P<bucket_name>[-.\w]+)'
_ONE = threading.Lock()  # The emulator is of one thread.


class Handler(server.RequestHandler):
  """One client's connection, in plain words or, as a proxy's, in TLS."""

  protocol_version = 'HTTP/1.1'
  disable_nagle_algorithm = True
  certificate: ssl.SSLContext
  scheme = 'http'

  def do_CONNECT(self):
    self.send_response(200)
    self.end_headers()
    self.connection = self.certificate.wrap_socket(
        self.connection, server_side=True)
    self.rfile = self.connection.makefile('rb')
    self.wfile = self.connection.makefile('wb', 0)
    self.scheme, self.close_connection = 'https', False

  def parse_request(self):
    found = super().parse_request()
    if found and self.headers.get('Transfer-Encoding') == 'chunked':
      del self.headers['Content-Length']  # Tensorflow says both.
    return found

  def __getattribute__(self, name):
    found = super().__getattribute__(name)
    if not name.startswith('do_') or name == 'do_CONNECT':
      return found
    def alone():
      with _ONE:
        found()
    return alone


class Request(server.Request):
  """One whose address is that by which it came, and whose body is there."""

  def __init__(self, handler, method):
    super().__init__(handler, method)
    self._base_url = f'{handler.scheme}://{handler.headers["Host"]}'
    self._full_url = self._base_url + self._path

  @property
  def data(self):
    found = super().data
    return b'' if found is None else found


server.Request = Request


def _asked(request: Request, key: str) -> str | None:
  return request.query.get(key, [None])[0]


def _generation(storage: Storage, request: Request) -> str:
  data = request.data
  name = request.params.get('object_id') or _asked(request, 'name') or (
      data['meta'].get('name') if isinstance(data, dict) else '')
  try:
    return storage.get_file_obj(request.params['bucket_name'],
                                name)['generation']
  except NotFound:
    return '0'


def _conditional(handler):
  """The handler, where the object is of the generation that is asked for."""
  def handle(request, response, storage, *args):
    now = _generation(storage, request)
    if _asked(request, 'ifGenerationMatch') not in (None, now):
      response.status = http.HTTPStatus.PRECONDITION_FAILED
    elif _asked(request, 'ifGenerationNotMatch') == now:
      response.status = http.HTTPStatus.NOT_MODIFIED
    else:
      handler(request, response, storage, *args)
      if response.status < 300:
        response['x-goog-generation'] = _generation(storage, request)
  return handle


def _between(request, response, storage, *args):
  """The names of a list from startOffset to, and without, endOffset."""
  first, end = _asked(request, 'startOffset'), _asked(request, 'endOffset')

  class Some:
    def get_file_list(self, *args, **keys):
      files, prefixes = storage.get_file_list(*args, **keys)
      def inside(name):
        return (first or '') <= name and (not end or name < end)
      return ([file for file in files if inside(file['name'])],
              [prefix for prefix in prefixes if inside(prefix)])

  objects.ls(request, response, Some(), *args)


def _move(request, response, storage, *args):
  bucket, name = request.params['bucket_name'], request.params['object_id']
  try:
    response.json(objects._copy(request.base_url, storage, bucket, name, bucket,
                                request.params['target']))
    storage.delete_file(bucket, name)
  except NotFound:
    response.status = http.HTTPStatus.NOT_FOUND


def _layout(request, response, storage, *args):
  response.json({'kind': 'storage#storageLayout', 'location': 'US',
                 'bucket': request.params['bucket_name'],
                 'locationType': 'multi-region'})


_CHANGED = {objects.ls: _between} | {
    handler: _conditional(handler) for handler in (
        objects.get, objects.download, objects.delete, objects.insert)}
server.HANDLERS = (
    (_BUCKET + r'/o/(?P<object_id>.+)/moveTo/o/(?P<target>.+)$',
     {server.POST: _move}),
    (_BUCKET + '/storageLayout$', {server.GET: _layout}),
    *((pattern, {method: _CHANGED.get(handler, handler)
                 for method, handler in handlers.items()})
      for pattern, handlers in server.HANDLERS))


def certificate(folder: str) -> ssl.SSLContext:
  """One for Google's names, that says itself that it is true: FOLDER/ca.pem."""
  key = ec.generate_private_key(ec.SECP256R1())
  name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'a test')])
  now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
  signed = x509.CertificateBuilder(
      name, name, key.public_key(), 1, now - day, now + day).add_extension(
          x509.SubjectAlternativeName([x509.DNSName(f'{host}.googleapis.com')
                                       for host in ('www', 'storage')]),
          critical=False).add_extension(
              x509.BasicConstraints(ca=True, path_length=None), critical=True
          ).sign(key, hashes.SHA256())
  pem = serialization.Encoding.PEM
  with open(f'{folder}/ca.pem', 'wb') as f:
    f.write(signed.public_bytes(pem))
  with open(f'{folder}/key.pem', 'wb') as f:
    f.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption()))
  found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  found.load_cert_chain(f'{folder}/ca.pem', f'{folder}/key.pem')
  return found


def main(folder: str, name: str):
  Handler.certificate = certificate(folder)
  storage = Storage(use_memory_fs=True)
  buckets.create_bucket(name, storage)
  with http_server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(
      Handler, storage)) as serving:
    print(f'http://127.0.0.1:{serving.server_port}', flush=True)
    serving.serve_forever()


if __name__ == '__main__':
  main(*sys.argv[1:])
