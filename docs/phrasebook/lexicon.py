"""The words of the phrasebook: data, no logic.

Nouns stand in groups that can do the same things, so that a pattern which takes one word
of a group always makes sense with another: what is eaten, what is opened, who can be tired.
"""

from docs.phrasebook.words import Adjective, Country, Determiner, Noun, Subject, Verb


def _only(group: tuple[Noun, ...], words: str) -> tuple[Noun, ...]:
    return tuple(noun for noun in group if noun.en in words.split())


# --- People ---------------------------------------------------------------------------

I_M, I_F = Subject("I", "je", 0), Subject("I", "je", 0, "f")
TU, VOUS = Subject("you", "tu", 1), Subject("you", "vous", 4)
HE, SHE = Subject("he", "il", 2), Subject("she", "elle", 2, "f")
WE, THEY = Subject("we", "nous", 3), Subject("they", "ils", 5)
ME, YOU = (I_M, I_F), (TU, VOUS)

MEN = tuple(Subject(name, name, 2) for name in ("Marc", "Max", "Paul", "Tom"))
WOMEN = tuple(Subject(name, name, 2, "f") for name in ("Anna", "Emma", "Julie", "Nina"))
NAMED = MEN + WOMEN

FAMILY = (
    Noun("brother", "frère", "m"),
    Noun("father", "père", "m"),
    Noun("son", "fils", "m"),
    Noun("uncle", "oncle", "m"),
    Noun("husband", "mari", "m"),
    Noun("sister", "sœur", "f"),
    Noun("mother", "mère", "f"),
    Noun("daughter", "fille", "f"),
    Noun("aunt", "tante", "f"),
    Noun("wife", "femme", "f"),
)
FRIENDS = (
    Noun("boss", "chef", "m"),
    Noun("neighbor", "voisin", "m"),
    Noun("neighbor", "voisine", "f"),
    Noun("friend", "ami", "m"),
    Noun("friend", "amie", "f"),
)

MY = Determiner("my", "mon", "ma", "mes")
YOUR = Determiner("your", "ton", "ta", "tes")
YOUR_POLITE = Determiner("your", "votre", "votre", "vos")
HIS = Determiner("his", "son", "sa", "ses")
HER = Determiner("her", "son", "sa", "ses")
OUR = Determiner("our", "notre", "notre", "nos")
THEIR = Determiner("their", "leur", "leur", "leurs")
THE = Determiner("the", "le", "la", "les")
THIS = Determiner("this", "ce", "cette", "ces", "these")
OWN = (MY, YOUR, YOUR_POLITE, HIS, HER, OUR, THEIR)
POINT = (THE, THIS)
ANY = (*POINT, *OWN)

RELATIVES = tuple(Subject(f"my {noun.en}", MY.before(noun), 2, noun.gender) for noun in FAMILY)
# The sets of people that patterns choose from; TOM_AND_ALL can do anything.
TOM, ANNA = MEN[3], WOMEN[0]
TOM_AND_ALL = (*ME, HE, SHE, WE, THEY, TOM, ANNA)

# The stressed pronouns: with me, than her, it's ours.
MINE_TO_THEIRS = (("mine", "moi"), ("his", "lui"), ("hers", "elle"), ("ours", "nous"), ("theirs", "eux"))

TRAITS = (
    Adjective("angry", "en colère", invariable=True),
    Adjective("late", "en retard", invariable=True),
    Adjective("brave", "courageux"),
    Adjective("busy", "occupé"),
    Adjective("famous", "célèbre"),
    Adjective("free", "libre"),
    Adjective("happy", "heureux"),
    Adjective("jealous", "jaloux", "jalouse"),
    Adjective("kind", "gentil", "gentille", more="kinder"),
    Adjective("lazy", "paresseux"),
    Adjective("lost", "perdu"),
    Adjective("polite", "poli"),
    Adjective("poor", "pauvre", more="poorer"),
    Adjective("ready", "prêt"),
    Adjective("rich", "riche", more="richer"),
    Adjective("sad", "triste", more="sadder"),
    Adjective("shy", "timide"),
    Adjective("sick", "malade"),
    Adjective("smart", "intelligent", more="smarter"),
    Adjective("strong", "fort", more="stronger"),
    Adjective("tall", "grand", more="taller"),
    Adjective("tired", "fatigué"),
    Adjective("worried", "inquiet", "inquiète"),
)
# Traits one can be too or very much of.
DEGREES = ("brave", "busy", "calm", "curious", "famous", "funny", "happy", "jealous", "kind", "lazy",
           "patient", "polite", "poor", "proud", "rich", "sad", "serious", "shy", "sick", "smart", "strong",
           "tall", "tired", "worried")  # fmt: skip

# What one can be told not to be.
AVOIDABLE = ("angry", "jealous", "late", "lazy", "sad", "serious", "shy", "worried")

# Where English is, French has: I'm hungry, j'ai faim.
HAVING = (
    ("afraid", "peur"),
    ("cold", "froid"),
    ("hot", "chaud"),
    ("hungry", "faim"),
    ("right", "raison"),
    ("sleepy", "sommeil"),
    ("thirsty", "soif"),
    ("wrong", "tort"),
)

# Professions and nationalities agree like adjectives, and take no article: il est médecin.
JOBS = (
    Adjective("artist", "artiste"),
    Adjective("baker", "boulanger"),
    Adjective("cook", "cuisinier"),
    Adjective("doctor", "médecin", "médecin"),
    Adjective("journalist", "journaliste"),
    Adjective("lawyer", "avocat"),
    Adjective("nurse", "infirmier"),
    Adjective("painter", "peintre"),
    Adjective("pilot", "pilote"),
    Adjective("singer", "chanteur", "chanteuse"),
    Adjective("student", "étudiant"),
)
NATIONALITIES = (
    Adjective("Chinese", "chinois"),
    Adjective("English", "anglais"),
    Adjective("French", "français"),
    Adjective("German", "allemand"),
    Adjective("Italian", "italien"),
    Adjective("Japanese", "japonais"),
    Adjective("Russian", "russe"),
    Adjective("Spanish", "espagnol"),
)
LANGUAGES = tuple(word for word in NATIONALITIES if word.en not in ("American", "Belgian", "Canadian", "Swiss"))
COUNTRIES = (
    Country("Canada", "Canada", "m"),
    Country("China", "Chine", "f"),
    Country("Egypt", "Égypte", "f"),
    Country("France", "France", "f"),
    Country("Germany", "Allemagne", "f"),
    Country("Italy", "Italie", "f"),
    Country("Japan", "Japon", "m"),
    Country("Mexico", "Mexique", "m"),
    Country("Spain", "Espagne", "f"),
    Country("the USA", "États-Unis", "plural"),
)
CITIES = (
    ("Berlin", "Berlin"),
    ("Lisbon", "Lisbonne"),
    ("London", "Londres"),
    ("Lyon", "Lyon"),
    ("Madrid", "Madrid"),
    ("Paris", "Paris"),
    ("Rome", "Rome"),
)

# --- Things ---------------------------------------------------------------------------

FRUIT = (
    Noun("apple", "pomme", "f"),
    Noun("banana", "banane", "f"),
    Noun("egg", "œuf", "m"),
    Noun("lemon", "citron", "m"),
    Noun("onion", "oignon", "m"),
    Noun("orange", "orange", "f"),
    Noun("peach", "pêche", "f"),
    Noun("pear", "poire", "f"),
)
DISHES = (
    Noun("cake", "gâteau", "m"),
    Noun("chicken", "poulet", "m"),
    Noun("fish", "poisson", "m", "fish"),
    Noun("meat", "viande", "f"),
    Noun("rice", "riz", "m"),
    Noun("soup", "soupe", "f"),
)
GROCERIES = (
    Noun("bread", "pain", "m"),
    Noun("cheese", "fromage", "m"),
    Noun("chocolate", "chocolat", "m"),
    Noun("ham", "jambon", "m"),
    Noun("jam", "confiture", "f"),
    Noun("salad", "salade", "f"),
    Noun("salt", "sel", "m"),
    Noun("sugar", "sucre", "m"),
)
DRINKS = (
    Noun("beer", "bière", "f"),
    Noun("coffee", "café", "m"),
    Noun("juice", "jus", "m"),
    Noun("milk", "lait", "m"),
    Noun("tea", "thé", "m"),
    Noun("water", "eau", "f"),
    Noun("wine", "vin", "m"),
)
HOT_DRINKS = _only(DRINKS, "coffee milk tea water")
FOOD = DISHES + GROCERIES + DRINKS
ANIMALS = (
    Noun("bird", "oiseau", "m"),
    Noun("cat", "chat", "m"),
    Noun("cow", "vache", "f"),
    Noun("dog", "chien", "m"),
    Noun("duck", "canard", "m"),
    Noun("horse", "cheval", "m"),
    Noun("rabbit", "lapin", "m"),
    Noun("snake", "serpent", "m"),
    Noun("wolf", "loup", "m", "wolves"),
)
PETS = _only(ANIMALS, "bird cat cow dog duck goat horse pig rabbit")
CLOTHES = (
    Noun("coat", "manteau", "m"),
    Noun("dress", "robe", "f"),
    Noun("hat", "chapeau", "m"),
    Noun("scarf", "écharpe", "f", "scarves"),
    Noun("shirt", "chemise", "f"),
    Noun("skirt", "jupe", "f"),
    Noun("sweater", "pull", "m"),
    Noun("tie", "cravate", "f"),
)
PAIRS = (
    Noun("glove", "gant", "m"),
    Noun("shoe", "chaussure", "f"),
    Noun("sock", "chaussette", "f"),
)
CONTAINERS = (
    Noun("bag", "sac", "m"),
    Noun("bottle", "bouteille", "f"),
    Noun("box", "boîte", "f"),
    Noun("suitcase", "valise", "f"),
)
DISHWARE = (
    Noun("cup", "tasse", "f"),
    Noun("fork", "fourchette", "f"),
    Noun("glass", "verre", "m"),
    Noun("knife", "couteau", "m", "knives"),
    Noun("plate", "assiette", "f"),
    Noun("spoon", "cuillère", "f"),
)
PAPERS = (
    Noun("book", "livre", "m"),
    Noun("letter", "lettre", "f"),
    Noun("newspaper", "journal", "m"),
)
DEVICES = (
    Noun("computer", "ordinateur", "m"),
    Noun("lamp", "lampe", "f"),
    Noun("phone", "téléphone", "m"),
    Noun("radio", "radio", "f"),
    Noun("watch", "montre", "f"),
)
SMALL_THINGS = (
    Noun("gift", "cadeau", "m"),
    Noun("key", "clé", "f"),
    Noun("pen", "stylo", "m"),
    Noun("pencil", "crayon", "m"),
    Noun("ticket", "billet", "m"),
    Noun("umbrella", "parapluie", "m"),
)
FURNITURE = (
    Noun("bed", "lit", "m"),
    Noun("chair", "chaise", "f"),
    Noun("desk", "bureau", "m"),
    Noun("shelf", "étagère", "f", "shelves"),
    Noun("table", "table", "f"),
)
OPENINGS = (
    Noun("door", "porte", "f"),
    Noun("window", "fenêtre", "f"),
)
VEHICLES = (
    Noun("bike", "vélo", "m"),
    Noun("boat", "bateau", "m"),
    Noun("bus", "bus", "m"),
    Noun("car", "voiture", "f"),
    Noun("train", "train", "m"),
    Noun("truck", "camion", "m"),
)
ROOMS = (
    Noun("bathroom", "salle de bain", "f"),
    Noun("bedroom", "chambre", "f"),
    Noun("garage", "garage", "m"),
    Noun("garden", "jardin", "m"),
    Noun("house", "maison", "f"),
    Noun("kitchen", "cuisine", "f"),
    Noun("office", "bureau", "m"),
)
PLACES = (
    Noun("bakery", "boulangerie", "f"),
    Noun("bank", "banque", "f"),
    Noun("beach", "plage", "f"),
    Noun("cinema", "cinéma", "m"),
    Noun("hospital", "hôpital", "m"),
    Noun("hotel", "hôtel", "m"),
    Noun("library", "bibliothèque", "f"),
    Noun("market", "marché", "m"),
    Noun("museum", "musée", "m"),
    Noun("park", "parc", "m"),
    Noun("pool", "piscine", "f"),
    Noun("restaurant", "restaurant", "m"),
    Noun("station", "gare", "f"),
)

RIDES = _only(VEHICLES, "bike boat car truck")
PORTABLE = CLOTHES + CONTAINERS + DISHWARE + PAPERS + DEVICES + SMALL_THINGS
GOODS = PORTABLE + FURNITURE + RIDES
TRADED = CLOTHES + CONTAINERS + DISHWARE + _only(PAPERS, "book newspaper") + DEVICES + FURNITURE + RIDES
EDIBLE = FRUIT + DISHES + _only(GROCERIES, "bread cheese chocolate ham jam salad")

OPENED_DAILY = ("bakery", "bank", "castle", "cinema", "library", "market", "museum", "park", "pharmacy", "pool",
                "restaurant", "theater")  # fmt: skip

# --- Qualities ------------------------------------------------------------------------

BIG = Adjective("big", "grand", before=True)
SMALL = Adjective("small", "petit", before=True)
OLD = Adjective("old", "vieux", "vieille", before=True, liaison="vieil")
YOUNG = Adjective("young", "jeune", before=True)
BEAUTIFUL = Adjective("beautiful", "beau", "belle", before=True, liaison="bel")
PRETTY = Adjective("pretty", "joli", before=True)
GOOD = Adjective("good", "bon", before=True)
NEW = Adjective("new", "neuf")
BROKEN = Adjective("broken", "cassé")
CLEAN = Adjective("clean", "propre")
CLOSED = Adjective("closed", "fermé")
COLD = Adjective("cold", "froid")
DANGEROUS = Adjective("dangerous", "dangereux")
DARK = Adjective("dark", "sombre")
DELICIOUS = Adjective("delicious", "délicieux")
DIRTY = Adjective("dirty", "sale")
DRY = Adjective("dry", "sec", "sèche")
EMPTY = Adjective("empty", "vide")
EXPENSIVE = Adjective("expensive", "cher")
FAST = Adjective("fast", "rapide")
FRESH = Adjective("fresh", "frais", "fraîche")
FULL = Adjective("full", "plein")
HEAVY = Adjective("heavy", "lourd")
HOT = Adjective("hot", "chaud")
LIGHT = Adjective("light", "léger")
LONG = Adjective("long", "long", "longue")
MODERN = Adjective("modern", "moderne")
OPEN = Adjective("open", "ouvert")
QUIET = Adjective("quiet", "calme")
RIPE = Adjective("ripe", "mûr")
SALTY = Adjective("salty", "salé")
SHORT = Adjective("short", "court")
SLOW = Adjective("slow", "lent")
STRANGE = Adjective("strange", "étrange")
SWEET = Adjective("sweet", "sucré")
USEFUL = Adjective("useful", "utile")
WET = Adjective("wet", "mouillé")

COLORS = (
    Adjective("black", "noir"),
    Adjective("blue", "bleu"),
    Adjective("brown", "marron", invariable=True),
    Adjective("gray", "gris"),
    Adjective("green", "vert"),
    Adjective("orange", "orange", invariable=True),
    Adjective("pink", "rose"),
    Adjective("purple", "violet", "violette"),
    Adjective("red", "rouge"),
    Adjective("white", "blanc", "blanche"),
    Adjective("yellow", "jaune"),
)
# What can be said of what.
QUALITIES = (
    (CLOTHES, (BEAUTIFUL, CLEAN, DIRTY, DRY, EXPENSIVE, NEW, OLD, PRETTY, WET)),
    (_only(CLOTHES, "coat dress scarf skirt"), (LONG, SHORT)),
    (CONTAINERS, (BIG, EMPTY, FULL, HEAVY, LIGHT, SMALL)),
    (DISHWARE, (BEAUTIFUL, CLEAN, DIRTY)),
    (DEVICES, (BROKEN, EXPENSIVE, NEW, OLD, USEFUL)),
    (PAPERS, (OLD, STRANGE, WET)),
    (FURNITURE, (BIG, CLEAN, DIRTY, EXPENSIVE, HEAVY, NEW, OLD, SMALL)),
    (OPENINGS, (BIG, CLOSED, DIRTY, OPEN, SMALL)),
    (VEHICLES, (CLEAN, DIRTY, EXPENSIVE, FAST, NEW, OLD, SLOW)),
    (ROOMS, (BEAUTIFUL, BIG, CLEAN, COLD, DARK, DIRTY, EMPTY, QUIET, SMALL)),
    (PLACES, (BEAUTIFUL, BIG, CLOSED, EMPTY, MODERN, OLD, OPEN, QUIET, SMALL)),
    (DISHES, (COLD, DELICIOUS, EXPENSIVE, GOOD, HOT, SALTY)),
    (_only(GROCERIES, "bread butter cheese ham jam"), (DELICIOUS, EXPENSIVE, GOOD, FRESH)),
    (DRINKS, (COLD, DELICIOUS, EXPENSIVE, GOOD)),
    (HOT_DRINKS, (HOT,)),
    (ANIMALS, (BEAUTIFUL, BIG, OLD, SMALL, YOUNG)),
    (_only(ANIMALS, "bear snake wolf"), (DANGEROUS,)),
    (_only(ANIMALS, "cat cow dog horse rabbit"), (SLOW, FAST)),
)
THINGS = tuple((noun, how) for nouns, qualities in QUALITIES for noun in nouns for how in qualities)
FRUIT_QUALITIES = (
    (FRUIT, (EXPENSIVE, FRESH, GOOD)),
    (_only(FRUIT, "apple banana orange peach pear"), (DELICIOUS, RIPE, SWEET)),
)
FRUIT_THINGS = tuple((noun, how) for nouns, qualities in FRUIT_QUALITIES for noun in nouns for how in qualities)
# What one can have too much of, and what one can admire.
TOO = (BIG, COLD, DARK, DIRTY, EXPENSIVE, HEAVY, HOT, LONG, OLD, SALTY, SHORT, SLOW, SMALL, YOUNG)
VERY = (*TOO, BEAUTIFUL, CLEAN, DANGEROUS, FAST, GOOD, LIGHT, MODERN, PRETTY, QUIET, STRANGE, USEFUL, WET)

# --- Verbs ----------------------------------------------------------------------------

ANSWER = Verb("answer", "answered", "répondre")
ARRIVE = Verb("arrive", "arrived", "arriver", with_etre=True)
CHOOSE = Verb("choose", "chose", "choisir")
COME = Verb("come", "came", "venir", "viens viens vient venons venez viennent", "venu", with_etre=True)
COOK = Verb("cook", "cooked", "cuisiner")
CRY = Verb("cry", "cried", "pleurer")
DANCE = Verb("dance", "danced", "danser")
DRAW = Verb("draw", "drew", "dessiner")
DREAM = Verb("dream", "dreamed", "rêver")
DRINK = Verb("drink", "drank", "boire", "bois bois boit buvons buvez boivent", "bu")
EAT = Verb("eat", "ate", "manger")
FALL = Verb("fall", "fell", "tomber", with_etre=True)
GO_HOME = Verb("go home", "went home", "rentrer", with_etre=True)
GO_OUT = Verb("go out", "went out", "sortir", "sors sors sort sortons sortez sortent", "sorti", with_etre=True)
HELP = Verb("help", "helped", "aider")
JUMP = Verb("jump", "jumped", "sauter")
LAUGH = Verb("laugh", "laughed", "rire", "ris ris rit rions riez rient", "ri")
LEARN = Verb("learn", "learned", "apprendre", "apprends apprends apprend apprenons apprenez apprennent", "appris")
LEAVE = Verb("leave", "left", "partir", "pars pars part partons partez partent", "parti", with_etre=True)
LIKE = Verb("like", "liked", "aimer")
LIVE = Verb("live", "lived", "habiter")
PAINT = Verb("paint", "painted", "peindre", "peins peins peint peignons peignez peignent", "peint")
PAY = Verb("pay", "paid", "payer", "paie paies paie payons payez paient")
PLAY = Verb("play", "played", "jouer")
READ = Verb("read", "read", "lire", "lis lis lit lisons lisez lisent", "lu")
RUN = Verb("run", "ran", "courir", "cours cours court courons courez courent", "couru")
SHOUT = Verb("shout", "shouted", "crier")
SING = Verb("sing", "sang", "chanter")
SKI = Verb("ski", "skied", "skier")
SLEEP = Verb("sleep", "slept", "dormir", "dors dors dort dormons dormez dorment", "dormi")
SMILE = Verb("smile", "smiled", "sourire", "souris souris sourit sourions souriez sourient", "souri")
SPEAK = Verb("speak", "spoke", "parler")
START = Verb("start", "started", "commencer")
STAY = Verb("stay", "stayed", "rester", with_etre=True)
STUDY = Verb("study", "studied", "étudier")
SWIM = Verb("swim", "swam", "nager")
TALK = Verb("talk", "talked", "parler")
THINK = Verb("think", "thought", "réfléchir")
TRAVEL = Verb("travel", "traveled", "voyager")
TRY = Verb("try", "tried", "essayer", "essaie essaies essaie essayons essayez essaient")
WAIT = Verb("wait", "waited", "attendre")
WALK = Verb("walk", "walked", "marcher")
WANT = Verb("want", "wanted", "vouloir", "veux veux veut voulons voulez veulent", "voulu")
WORK = Verb("work", "worked", "travailler")
WRITE = Verb("write", "wrote", "écrire", "écris écris écrit écrivons écrivez écrivent", "écrit")

BE = Verb("be", "was", "être", "suis es est sommes êtes sont", "été")
CAN = Verb("can", "could", "pouvoir", "peux peux peut pouvons pouvez peuvent", "pu")
GO = Verb("go", "went", "aller", "vais vas va allons allez vont", with_etre=True)
HAVE = Verb("have", "had", "avoir", "ai as a avons avez ont", "eu")
MUST = Verb("must", "had to", "devoir", "dois dois doit devons devez doivent", "dû")

# What people do for a while, so that "is doing" and "did" both make sense.
ACTIONS = (COOK, CRY, DANCE, DRAW, DREAM, DRINK, EAT, HELP, JUMP, LAUGH, PAINT, PAY, PLAY, READ, RUN, SHOUT,
           SING, SLEEP, SMILE, STUDY, SWIM, TALK, THINK, TRAVEL, WAIT, WALK, WORK, WRITE)  # fmt: skip
# Where people go: these make their past with être.
MOVES = (ARRIVE, COME, FALL, GO_HOME, GO_OUT, LEAVE, STAY)
# What people decide on: one can, must, wants to or is going to.
CHOICES = (ANSWER, CHOOSE, COME, EAT, GO_HOME, GO_OUT, HELP, LEAVE, PAY, PLAY, SLEEP, START, STAY, TALK, TRY,
           WAIT, WALK, WORK)  # fmt: skip
PLEASURES = (COOK, DANCE, DRAW, EAT, LAUGH, PAINT, PLAY, READ, RUN, SING, SKI, SLEEP, SWIM, TRAVEL, WALK,
             WORK, WRITE)  # fmt: skip
# "can" is savoir for what one has learned, pouvoir for the rest.

# --- Time, weather and small talk -----------------------------------------------------

DAYS = (
    ("Monday", "lundi"),
    ("Tuesday", "mardi"),
    ("Wednesday", "mercredi"),
    ("Thursday", "jeudi"),
    ("Friday", "vendredi"),
    ("Saturday", "samedi"),
    ("Sunday", "dimanche"),
)
MONTHS = (
    ("January", "janvier"),
    ("February", "février"),
    ("March", "mars"),
    ("April", "avril"),
    ("May", "mai"),
    ("June", "juin"),
    ("July", "juillet"),
    ("August", "août"),
    ("September", "septembre"),
    ("October", "octobre"),
    ("November", "novembre"),
    ("December", "décembre"),
)
SPORTS = (
    ("cards", "à les cartes"),
    ("chess", "à les échecs"),
    ("football", "à le football"),
    ("tennis", "à le tennis"),
    ("the guitar", "de la guitare"),
    ("the piano", "de le piano"),
)
WEATHER = (
    ("cold", "il fait froid"),
    ("cool", "il fait frais"),
    ("dark", "il fait nuit"),
    ("hot", "il fait chaud"),
    ("raining", "il pleut"),
    ("snowing", "il neige"),
    ("sunny", "il y a de le soleil"),
    ("windy", "il y a de le vent"),
)
BODY = (
    Noun("arm", "bras", "m"),
    Noun("back", "dos", "m"),
    Noun("ear", "oreille", "f"),
    Noun("foot", "pied", "m", "feet"),
    Noun("hand", "main", "f"),
    Noun("head", "tête", "f"),
    Noun("leg", "jambe", "f"),
    Noun("stomach", "ventre", "m"),
)
GREETINGS = (
    ("Bye,", "Au revoir,", "!"),
    ("Come here,", "Viens ici,", "!"),
    ("Come in,", "Entre,", "!"),
    ("Congratulations,", "Félicitations,", "!"),
    ("Good evening,", "Bonsoir,", "!"),
    ("Good luck,", "Bonne chance,", "!"),
    ("Good night,", "Bonne nuit,", "!"),
    ("Happy birthday,", "Joyeux anniversaire,", "!"),
    ("Hello,", "Bonjour,", "!"),
    ("Help me,", "Aide-moi,", "!"),
    ("Hi,", "Salut,", "!"),
    ("Hurry up,", "Dépêche-toi,", "!"),
    ("Look,", "Regarde,", "!"),
    ("Sorry,", "Pardon,", "."),
    ("Thank you,", "Merci,", "."),
    ("Welcome,", "Bienvenue,", "!"),
)
