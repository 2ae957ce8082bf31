"""Closed classes of English words, for `noun_chunks`: all lower case.

What is in none of them is an open-class word: a noun, a verb, an adjective.
"""


def _words(text: str) -> frozenset[str]:
  return frozenset(text.split())


POSSESSIVES = _words('my your his her its our their whose')
DETERMINERS = POSSESSIVES | _words('''
a an the this these those every each some any no another all both either
neither several few many much most more other such enough own same one two
three four five six seven eight nine ten first second next last''')

SUBJECTS = _words('i you he she it we they who there')
PRONOUNS = SUBJECTS | _words('''
me him her us them mine yours his hers its ours theirs myself yourself himself
herself itself ourselves yourselves themselves whom what which that this these
those each both all''')

BE = _words("""
am is are was were be been being 's 're 'm seems seemed seem looks looked look
become became becomes felt got gets get getting feel remain remained stay stayed
""")
# A verb without an ending follows.
MODALS = _words('''
do does did ca can wo could will would shall should may might must cannot n't
not to never 'll 'd let lets please''')
HAVE = _words("have has had having 've")

PREPOSITIONS = _words('''
about above across after against along alongside amid among around as at
before behind below beneath beside besides between beyond by despite down
during except for from in inside into like near of off on onto opposite out
outside over past per round since than through throughout till toward towards
under underneath unlike until up upon versus via with within without''')
CONJUNCTIONS = _words('''
and or but nor so yet because although though while whereas if unless whether
that when whenever where wherever why how who whom which what whatever even
once''')
ADVERBS = _words('''
again ago ahead almost already also altogether always anymore anyway apart
away back badly better ever far fast hard here however instead just later
least less maybe meanwhile nearby never nevertheless not now often perhaps
please quite rather really right sometimes somewhat somewhere soon still
straight then therefore thus together tomorrow tonight too twice usually very
well yes yesterday today else much more most long longer only there enough
only even inside outside plenty either eventually once''')
ADJECTIVES = _words('''
able afraid alive alone angry asleep aware bad big black blue brave bright
careful cheap clean clear clever close cold cruel dark dead dear deep
different difficult dirty dry early easy empty excellent expensive fair false
famous far fat few fierce fine fond free fresh full funny furious glad good
great green happy heavy high hot huge hungry ill important interesting jealous
kind large late lazy left likely little lonely long loose loud low lucky mad
narrow nasty near new nice noisy nosy old open particular perfect poor popular
possible powerful proud quick quiet rare ready red rich rude sad safe scared
several severe sharp short sick silly similar simple slow small smart soft
sorry special steep strange strict strong successful sudden sure sweet tall
terrible thick thin tight tiny tired true ugly unhappy upset useful warm weak
weary well wet white whole wide wild willing wise wonderful wrong yellow
young''')
# Verbs that no ending marks, and that are seldom nouns: strong verbs, and the
# frequent weak ones.
VERBS = _words('''
arise arose arisen ate bear bore beat beaten began begin begun bend bent bet
bite bit bitten blew blown bought brought built came catch caught choose chose
chosen come crept dealt drank draw drew drawn drove driven drunk dug eat eaten
fallen fed fell fight find flew flown found forbade forgave forget forgot
forgotten fought froze frozen gave give given go goes gone got gotten grew
grown heard held hid hidden hide hung kept knelt knew know knows known laid
lay lain led left lent lie lit lost made make makes making meant met mistook
overcame owe paid put puts ran rang read ridden rode rose said sang sank sat
saw see seen sees sent sew shook shot shone shrank shut slept slid sold sought
spent spoke spoken sprang stand steal stole stolen stood stuck stung struck
swam swept swore swung take taken taking tell tells thought threw throw thrown
told took tore torn understand understood wept went win woke won wore worn
wound write wrote written add admit agree allow appear argue arrive ask avoid
become believe belong blame bother break bring bully buy carry clap coax come
compete complain concern consider continue count cut decide defeat deserve die
disappear discover doubt enjoy enter envy escape excuse exist expect explain
fail fit follow fool frighten gather get giggle hang happen have hear hit hope
imagine impress include influence invite join keep learn leave lend let like
listen live lose love manage mean mention move need notice obey offer open owe
pass pay persuade pick pour prefer pretend prevent promise protect prove
provide pull push quit raise reach realise realize receive refuse regret
remain remember remind remove repair repeat rescue respect reveal run say seem
seems sell send serve set shell show sit sleep smell smile speak spend stab
start stay step stop suffer suggest suppose teach think tie tip touch treat
try turn use used visit wait walk want wants wear wish wonder work worry
yell''')

# Nouns that end as adverbs do.
LY_NOUNS = _words('''
ally anomaly assembly belly bully butterfly family fly homily jelly lily
monopoly reply supply melancholy''')

RELATIVES = _words('that which who whom whose')
FUNCTION = (PREPOSITIONS | CONJUNCTIONS | ADVERBS | MODALS | HAVE | BE
            | _words('ok oh hey'))
# Before a name; the point belongs to them.
TITLES = _words('mr. mrs. ms. dr. prof. st. sir lady lord uncle aunt captain '
                'colonel president general miss king queen')
INDEFINITE = _words('anyone everyone someone anybody everybody somebody nobody '
                    'anything everything something nothing')
