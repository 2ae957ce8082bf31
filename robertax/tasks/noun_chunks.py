"""Noun phrases of a sentence by rules, without a tagger or a model.

For WSC, fairseq takes spaCy's noun chunks and its runs of nouns (examples/
roberta/wsc/wsc_utils.py, extended_noun_chunks). Here a chunk is an optional
determiner and the open-class words behind it, up to a word of a closed class, a
mark, or what looks like a verb. A word in none of the lists below is an
open-class word: a noun, a verb, an adjective. Each chunk gives the phrase, the
phrase without its determiner, and its head; neighbours joined by 's, `of` and
`and` are phrases too.
"""

from collections.abc import Iterator
import dataclasses
import re

_TOKEN = re.compile(
    r"(?:Mr|Mrs|Ms|Dr|Prof|St|Jr)\.|n['’]t\b|['’](?:s|ll|re|ve|d|m)\b"
    r"|\d[\d.,]*\d|\w+?(?=n['’]t\b)|\w+(?:-\w+)*|['’](?=\s)|[^\w\s]", re.U)
MAX_JOINED = 3  # Base phrases in a joined one.


def _word_set(text: str) -> frozenset[str]:
  return frozenset(text.split())


POSSESSIVES = _word_set('my your his her its our their whose')
DETERMINERS = POSSESSIVES | _word_set('''a an the this these those every each
some any no another all both either neither several few many much most more
other such enough own same one two three four five six seven eight nine ten
first second next last''')

SUBJECTS = _word_set('i you he she it we they who there')
PRONOUNS = SUBJECTS | _word_set('''me him her us them mine yours his hers its
ours theirs myself yourself himself herself itself ourselves yourselves
themselves whom what which that this these those each both all''')

BE = _word_set("""am is are was were be been being 's 're 'm seems seemed seem
looks looked look become became becomes felt got gets get getting feel remain
remained stay stayed""")
# A verb without an ending follows.
MODALS = _word_set('''do does did ca can wo could will would shall should may
might must cannot n't not to never 'll 'd let lets please''')
HAVE = _word_set("have has had having 've")

PREPOSITIONS = _word_set('''about above across after against along alongside
amid among around as at before behind below beneath beside besides between
beyond by despite down during except for from in inside into like near of off on
onto opposite out outside over past per round since than through throughout till
toward towards under underneath unlike until up upon versus via with within
without''')
CONJUNCTIONS = _word_set('''and or but nor so yet because although though while
whereas if unless whether that when whenever where wherever why how who whom
which what whatever even once''')
ADVERBS = _word_set('''again ago ahead almost already also altogether always
anymore anyway apart away back badly better ever far fast hard here however
instead just later least less maybe meanwhile nearby never nevertheless not now
often perhaps please quite rather really right sometimes somewhat somewhere soon
still straight then therefore thus together tomorrow tonight too twice usually
very well yes yesterday today else much more most long longer only there enough
even inside outside plenty either eventually once''')
ADJECTIVES = _word_set('''able afraid alive alone angry asleep aware bad big
black blue brave bright careful cheap clean clear clever close cold cruel dark
dead dear deep different difficult dirty dry early easy empty excellent
expensive fair false famous far fat few fierce fine fond free fresh full funny
furious glad good great green happy heavy high hot huge hungry ill important
interesting jealous kind large late lazy left likely little lonely long loose
loud low lucky mad narrow nasty near new nice noisy nosy old open particular
perfect poor popular possible powerful proud quick quiet rare ready red rich
rude sad safe scared several severe sharp short sick silly similar simple slow
small smart soft sorry special steep strange strict strong successful sudden
sure sweet tall terrible thick thin tight tiny tired true ugly unhappy upset
useful warm weak weary well wet white whole wide wild willing wise wonderful
wrong yellow young''')
# Verbs without a marked ending that are seldom nouns.
VERBS = _word_set('''arise arose arisen ate bear bore beat beaten began begin
begun bend bent bet bite bit bitten blew blown bought brought built came catch
caught choose chose chosen come crept dealt drank draw drew drawn drove driven
drunk dug eat eaten fallen fed fell fight find flew flown found forbade forgave
forget forgot forgotten fought froze frozen gave give given go goes gone got
gotten grew grown heard held hid hidden hide hung kept knelt knew know knows
known laid lay lain led left lent lie lit lost made make makes making meant met
mistook overcame owe paid put puts ran rang read ridden rode rose said sang sank
sat saw see seen sees sent sew shook shot shone shrank shut slept slid sold
sought spent spoke spoken sprang stand steal stole stolen stood stuck stung
struck swam swept swore swung take taken taking tell tells thought threw throw
thrown told took tore torn understand understood wept went win woke won wore
worn wound write wrote written add admit agree allow appear argue arrive ask
avoid become believe belong blame bother break bring bully buy carry clap coax
compete complain concern consider continue count cut decide defeat deserve die
disappear discover doubt enjoy enter envy escape excuse exist expect explain
fail fit follow fool frighten gather get giggle hang happen have hear hit hope
imagine impress include influence invite join keep learn leave lend let like
listen live lose love manage mean mention move need notice obey offer open pass
pay persuade pick pour prefer pretend prevent promise protect prove provide pull
push quit raise reach realise realize receive refuse regret remain remember
remind remove repair repeat rescue respect reveal run say seem seems sell send
serve set shell show sit sleep smell smile speak spend stab start stay step stop
suffer suggest suppose teach think tie tip touch treat try turn use used visit
wait walk want wants wear wish wonder work worry yell''')

# Nouns that end as adverbs do.
LY_NOUNS = _word_set('''ally anomaly assembly belly bully butterfly family fly
homily jelly lily monopoly reply supply melancholy''')

RELATIVES = _word_set('that which who whom whose')
FUNCTION = (PREPOSITIONS | CONJUNCTIONS | ADVERBS | MODALS | HAVE | BE
            | _word_set('ok oh hey'))
# These come before a name; the full stop belongs to them.
TITLES = _word_set('''mr. mrs. ms. dr. prof. st. sir lady lord uncle aunt
captain colonel president general miss king queen''')
INDEFINITE = _word_set('''anyone everyone someone anybody everybody somebody
nobody anything everything something nothing''')


@dataclasses.dataclass(frozen=True)
class Word:
  """A word, a clitic or a mark at text[start:end]."""
  text: str
  start: int
  end: int

  @property
  def lower(self) -> str:
    return self.text.lower().replace('’', "'")

  @property
  def proper(self) -> bool:
    return self.text[0].isupper()


def noun_chunks(text: str) -> list[str]:
  """Lists an English text's noun phrases in order, each once, no pronouns."""
  found = text_words(text)
  phrases = _phrases(found)
  spans = set(_joined(found, phrases)).union(
      *(_variants(found, start, end) for start, end in phrases))
  unique = {}
  for start, end in sorted(spans, key=lambda s: (s[0], -s[1])):
    phrase = text[found[start].start:found[end - 1].end]
    unique.setdefault(phrase.lower(), phrase)
  return list(unique.values())


def text_words(text: str) -> list[Word]:
  """Lists words, clitics (`n't`, `'s`) and marks in order."""
  return [Word(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(text)]


def _open(word: Word) -> bool:
  """Tells whether the word may be a noun, an adjective, or an unlisted verb."""
  low = word.lower
  return word.text[0].isalnum() and not (
      low in PRONOUNS or low in FUNCTION or low in DETERMINERS
      or low.endswith('ly') and low not in LY_NOUNS and not word.proper)


def _phrases(found: list[Word]) -> list[tuple[int, int]]:
  """Finds base phrases as [start, end) of `found`; none overlap."""
  phrases, i = [], 0
  while i < len(found):
    word = found[i]
    if word.lower in INDEFINITE:
      phrases.append((i, i + 1))
      i += 1
      continue
    begin = i
    while i < len(found) and found[i].lower in DETERMINERS:
      i += 1
    # `Sam's drawing`: 's acts as a determiner.
    has_determiner = i > begin or i and found[i - 1].lower in ("'s", "'")
    first = i
    while i < len(found) and _open_here(found, i, first, has_determiner):
      i += 1
    if i == first:
      i = max(i, begin + 1)
      continue
    number = found[i - 1].text[0].isdigit()
    # A pronoun with its verb, such as `Those slept`.
    clause = (first == begin + 1 and found[begin].lower in PRONOUNS
              and all(w.lower in VERBS for w in found[first:i]))
    if not number and not (clause if has_determiner else
                           _predicate(found, first, i)):
      phrases.append((begin, i))
  return phrases


def _open_here(found: list[Word], i: int, first: int,
               has_determiner: bool) -> bool:
  """Tells whether word i continues the phrase whose words begin at `first`."""
  word, low = found[i], found[i].lower
  ahead = found[i + 1] if i + 1 < len(found) else None
  inner = i == first and has_determiner
  adjective = low in ADJECTIVES
  if not (_open(word) or adjective and (inner or i > first or ahead and _open(
      ahead))):
    return False
  if adjective:
    # `a poodle asleep`: no adjective follows a noun.
    return i == first or found[i - 1].lower in ADJECTIVES
  sentence_start = i == 0 or found[i - 1].text in '.!?"'
  if word.proper and not sentence_start:
    # A name does not continue common nouns.
    return i == first or found[i - 1].proper or not (
        found[i - 1].text[0].isalnum() and not found[i - 1].proper)
  if (i > first and found[i - 1].proper and found[i - 1].lower not in TITLES):
    return not _verb_behind(found, i) and has_determiner
  if inner:
    return True
  if _verb(low) and not (i == first and word.proper):
    return False  # Unlike `the sleeping boy`, behind a determiner.
  return i == first or not _verb_behind(found, i)


def _verb(low: str) -> bool:
  return (low in VERBS or low.endswith('ed') and len(low) > 4
          or low.endswith('ing') and len(low) > 5)


def _verb_behind(found: list[Word], i: int) -> bool:
  """Tells whether word i, behind a noun, is rather the verb of a clause."""
  if i + 1 == len(found) or not found[i].text[0].islower():
    return False
  ahead = found[i + 1]
  if ahead.lower in RELATIVES:
    return False
  if ahead.lower in DETERMINERS or ahead.lower in PRONOUNS:
    return True
  # Not `his rival Bill`.
  return found[i].lower.endswith('s') and (
      ahead.proper or ahead.lower in PREPOSITIONS or ahead.lower in ADVERBS)


def _predicate(found: list[Word], start: int, end: int) -> bool:
  """Tells whether words without a determiner are a verb or an adjective."""
  low = [w.lower for w in found[start:end]]
  if found[start].proper and start:
    return False
  if all(w in ADJECTIVES or _verb(w) for w in low):
    return not found[start].proper
  if (start and _open(found[start - 1]) and end - start == 1
      and _verb_behind(found, start)):
    return True  # `Pete envies Martin`
  back = start - 1
  while back >= 0 and (found[back].lower in ADVERBS
                       or found[back].lower.endswith('ly')):
    back -= 1
  before = found[back].lower if back >= 0 else ''
  return before in SUBJECTS or before in MODALS or (
      before in BE and end - start == 1 and not low[-1].endswith('s'))


def _variants(found: list[Word], start: int, end: int
              ) -> Iterator[tuple[int, int]]:
  """Yields the phrase, its parts without determiner or adjective, its head."""
  yield start, end
  bare = start
  while bare < end - 1 and found[bare].lower in DETERMINERS:
    bare += 1
  yield bare, end
  yield end - 1, end
  name = end  # `his rival Bill`: the name alone, and what is before it.
  while name > bare and found[name - 1].proper:
    name -= 1
  if bare < name < end:
    yield name, end
    yield start, name
  noun = bare  # Nouns without adjectives.
  while noun < end - 1 and (found[noun].lower in ADJECTIVES
                            or _verb(found[noun].lower)):
    noun += 1
  yield noun, end


def _joined(found: list[Word], phrases: list[tuple[int, int]]
            ) -> Iterator[tuple[int, int]]:
  """Yields neighbours with 's, `of` or `and` between them."""
  for i, (start, end) in enumerate(phrases):
    for begin, last in phrases[i + 1:i + MAX_JOINED]:
      between = [w.lower for w in found[end:begin]]
      if between not in (["'s"], ["'"], ['of'], ['and']):
        break
      end = last
      yield start, end
      if found[start].lower in DETERMINERS and end - start > 1:
        yield start + 1, end
