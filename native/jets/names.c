/* Layers tri and qua: names of ships: the cipher (ob) and the syllables (po).
 *
 * The cipher is a Feistel network of four rounds over the numbers below
 * 0xffff * 0x10000, its rounds Murmur3 of two bytes: planets' numbers, less
 * 0x10000, and the lower half of moons' go through it. Hoon would encipher
 * again what comes out too large; nothing does: the last two halves are below
 * 0xffff and 0x10000. Twin of proto/cord.py. */
#include "names.h"

#include <string.h>

#include "../murmur.h"
#include "sample.h"

static const char prefixes[] =
    "dozmarbinwansamlitsighidfidlissogdirwacsabwissibrigsoldopmodfoglidhopdar"
    "dorlorhodfolrintogsilmirholpaslacrovlivdalsatlibtabhanticpidtorbolfosdot"
    "losdilforpilramtirwintadbicdifrocwidbisdasmidloprilnardapmolsanlocnovsit"
    "nidtipsicropwitnatpanminritpodmottamtolsavposnapnopsomfinfonbanmorworsip"
    "ronnorbotwicsocwatdolmagpicdavbidbaltimtasmalligsivtagpadsaldivdactansid"
    "fabtarmonranniswolmispallasdismaprabtobrollatlonnodnavfignomnibpagsopral"
    "bilhaddocridmocpacravripfaltodtiltinhapmicfanpattaclabmogsimsonpinlomric"
    "tapfirhasbosbatpochactidhavsaplindibhosdabbitbarracparloddosbortochilmac"
    "tomdigfilfasmithobharmighinradmashalraglagfadtopmophabnilnosmilfopfamdat"
    "noldinhatnacrisfotribhocnimlarfitwalrapsarnalmoslandondanladdovrivbacpol"
    "laptalpitnambonrostonfodponsovnocsorlavmatmipfip";
static const char suffixes[] =
    "zodnecbudwessevpersutletfulpensytdurwepserwylsunrypsyxdyrnuphebpeglupdep"
    "dysputlughecryttyvsydnexlunmeplutseppesdelsulpedtemledtulmetwenbynhexfeb"
    "pyldulhetmevruttylwydtepbesdexsefwycburderneppurrysrebdennutsubpetrulsyn"
    "regtydsupsemwynrecmegnetsecmulnymtevwebsummutnyxrextebfushepbenmuswyxsym"
    "selrucdecwexsyrwetdylmynmesdetbetbeltuxtugmyrpelsyptermebsetdutdegtexsur"
    "feltudnuxruxrenwytnubmedlytdusnebrumtynseglyxpunresredfunrevrefmectedrus"
    "bexlebduxrynnumpyxrygryxfeptyrtustyclegnemfermertenlusnussyltecmexpubrym"
    "tucfyllepdebbermughuttunbylsudpemdevlurdefbusbeprunmelpexdytbyttyplevmyl"
    "wedducfurfexnulluclennerlexrupnedlecrydlydfenwelnydhusrelrudneshesfetdes"
    "retdunlernyrsebhulrylludremlysfynwerrycsugnysnyllyndyndemluxfedsedbecmun"
    "lyrtesmudnytbyrsenwegfyrmurtelreptegpecnelnevfes";
_Static_assert(sizeof prefixes == 769 && sizeof suffixes == 769,
               "three letters for each byte");

const char *nk_syllable(bool prefix, unsigned byte) {
    return (prefix ? prefixes : suffixes) + 3 * (size_t)(byte & 0xff);
}

int nk_syllable_byte(bool prefix, const unsigned char *letters) {
    const char *table = prefix ? prefixes : suffixes;
    for (int i = 0; i < 256; i++) {
        if (memcmp(table + 3 * i, letters, 3) == 0) return i;
    }
    return -1;
}

/* ---- the cipher ---- */

#define LEFT 0xffffu
#define RIGHT 0x10000u
#define PLANETS 0x10000u
#define MOONS 0x100000000ull

static uint64_t round_of(unsigned index, uint64_t value) {
    static const uint32_t seeds[] = {0xb76d5eed, 0xee281300, 0x85bcae01, 0x4b387af7};
    return nk_murmur_final(seeds[index] ^ nk_murmur_scramble((uint32_t)value), 2);
}

/* Where a half equals LEFT the halves are not swapped, and so two numbers
 * never become one. */
static uint64_t encipher(uint64_t value) {
    uint64_t left = value % LEFT, right = value / LEFT;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t next = (left + round_of(i, right)) % (i % 2 == 0 ? LEFT : RIGHT);
        left = right;
        right = next;
    }
    return right == LEFT ? right * LEFT + left : left * LEFT + right;
}

static uint64_t decipher(uint64_t value) {
    uint64_t right = value % LEFT, left = value / LEFT;
    if (left == LEFT) {
        left = right;
        right = LEFT;
    }
    for (unsigned i = 4; i-- > 0;) {
        uint64_t size = i % 2 == 0 ? LEFT : RIGHT;
        uint64_t next = (right + size - round_of(i, left) % size) % size;
        right = left;
        left = next;
    }
    return right * LEFT + left;
}

static uint64_t apply(uint64_t (*cipher)(uint64_t), uint64_t ship) {
    uint64_t planet = ship & (MOONS - 1);
    if (planet < PLANETS) return ship;
    return (ship & ~(MOONS - 1)) | (cipher(planet - PLANETS) + PLANETS);
}

uint64_t nk_ship_conceal(uint64_t ship) {
    return apply(encipher, ship);
}
uint64_t nk_ship_restore(uint64_t ship) {
    return apply(decipher, ship);
}

static nk_status cipher(struct nk_machine *machine, nk_noun core,
                        uint64_t (*apply_to)(uint64_t), nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun ship;
    uint64_t low;
    if (!nk_sample(machine, core, &ship) || nk_is_cell(ship)) return NK_PUNT;
    if (nk_atom_bits(arena, ship) > 64) return nk_answer(ship, product);
    nk_atom_read(arena, ship, &low, sizeof low);
    return nk_answer(nk_atom_from_u64(arena, apply_to(low)), product);
}
static nk_status jet_fein(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return cipher(machine, core, nk_ship_conceal, product);
}
static nk_status jet_fynd(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return cipher(machine, core, nk_ship_restore, product);
}

/* ---- syllables ---- */

/* ++  ins and  ++  ind: a unit of the byte. */
static nk_status byte_of(struct nk_machine *machine, nk_noun core, bool prefix,
                         nk_noun *product) {
    nk_noun name;
    unsigned char letters[3];
    if (!nk_sample(machine, core, &name) || nk_is_cell(name)) return NK_PUNT;
    if (nk_atom_size(&machine->arena, name) != 3) return nk_answer(0, product);
    nk_atom_read(&machine->arena, name, letters, sizeof letters);
    int byte = nk_syllable_byte(prefix, letters);
    if (byte < 0) return nk_answer(0, product);
    return nk_answer(nk_cons_try(&machine->arena, 0, (nk_noun)byte), product);
}
static nk_status jet_ins(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return byte_of(machine, core, true, product);
}
static nk_status jet_ind(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return byte_of(machine, core, false, product);
}

static nk_status syllable_of(struct nk_machine *machine, nk_noun core, bool prefix,
                             nk_noun *product) {
    nk_noun byte;
    if (!nk_sample(machine, core, &byte) || nk_is_cell(byte)) return NK_PUNT;
    if (byte > 255) return NK_EXIT;
    const char *letters = nk_syllable(prefix, (unsigned)byte);
    return nk_answer(nk_atom_from_bytes(&machine->arena, letters, 3), product);
}
static nk_status jet_tos(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return syllable_of(machine, core, true, product);
}
static nk_status jet_tod(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return syllable_of(machine, core, false, product);
}

const struct nk_arm nk_arms_names[] = {NK_ARM("tri/ob/fein", jet_fein),
                                       NK_ARM("tri/ob/fynd", jet_fynd),
                                       NK_ARM("qua/po/ins", jet_ins),
                                       NK_ARM("qua/po/ind", jet_ind),
                                       NK_ARM("qua/po/tos", jet_tos),
                                       NK_ARM("qua/po/tod", jet_tod),
                                       NK_ARMS_END};
