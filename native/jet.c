/* See jet.h. Locations are few (hundreds); batteries are found by mug. */
#include "jet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "code.h"
#include "cord.h"
#include "mug.h"
#include "stub.h"

#define NONE UINT32_MAX
#define PATH_MAX_SIZE 96
#define LOCATIONS_MAX (1u << 20)

struct location {
    nk_noun battery, name, payload, hooks;
    uint32_t axis;            /* of the parent core; 0: a root */
    uint32_t parent;          /* its location */
    uint32_t same;            /* next location with an equal battery */
    bool jetted;              /* under a kelvin root that we know */
    const struct nk_arm *arm; /* for its axis 2 */
    /* The last core that was found to be here, in the era [seen]: another of
     * the very same battery and parent is here too, and nobody need look. */
    nk_noun seen_battery, seen_parent;
    uint64_t seen;
    char path[PATH_MAX_SIZE];
};

static const struct nk_arm *const families[] = {
    nk_arms_arithmetic, nk_arms_bits,    nk_arms_codes,  nk_arms_compiler,
    nk_arms_floats,     nk_arms_json,    nk_arms_lists,  nk_arms_maps,
    nk_arms_names,      nk_arms_parsers, nk_arms_plot,   nk_arms_random,
    nk_arms_rounding,   nk_arms_scan,    nk_arms_serial, nk_arms_sets,
    nk_arms_sha,        nk_arms_streams, nk_arms_text,   nk_arms_virtual};
#define FAMILY_COUNT (sizeof families / sizeof *families)

struct nk_jets {
    struct location *locations;
    size_t count, capacity;
    size_t committed;  /* those that home's cold noun holds */
    uint64_t era;      /* ends when nouns move or go; from 1 on */
    uint32_t *buckets; /* by mug of the battery: the newest such location */
    size_t bucket_count;
    struct nk_arm_counts *counters;
    size_t counter_count;
    size_t family_ends[FAMILY_COUNT]; /* places in [counters] */
};

/* ---- arms by path ---- */

static bool is_layer(const char *name) {
    static const char *const layers[] = {"one", "two", "tri", "qua",
                                         "pen", "hex", "non"};
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        if (strcmp(name, layers[i]) == 0) return true;
    }
    return false;
}

static const struct nk_arm *arm_by_path(const char *path) {
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        for (const struct nk_arm *arm = families[f]; arm->path != NULL; arm++) {
            if (strcmp(arm->path, path) == 0) return arm;
        }
    }
    return NULL;
}

/* A term, or [term number], as text. False where it is neither. */
static bool name_text(const struct nk_arena *arena, nk_noun name, char *out,
                      size_t size) {
    nk_noun term = name, number = NK_NONE;
    if (nk_is_cell(name)) {
        term = nk_head(arena, name);
        number = nk_tail(arena, name);
        if (!nk_is_direct(number)) return false;
    }
    if (!nk_is_atom(term)) return false;
    size_t length = nk_atom_size(arena, term);
    if (length + 24 > size) return false;
    nk_atom_read(arena, term, out, length);
    for (size_t i = 0; i < length; i++) {
        if (out[i] <= ' ' || out[i] > '~' || out[i] == '/') return false;
    }
    size_t at = length;
    if (number != NK_NONE) {
        char digits[24];
        size_t n = 0;
        do {
            digits[n++] = (char)('0' + number % 10);
            number /= 10;
        } while (number != 0);
        while (n > 0)
            out[at++] = digits[--n];
    }
    out[at] = 0;
    return true;
}

/* The kelvin roots: k135..k140 with the number as payload, and a50. */
static bool is_known_root(const char *name, nk_noun payload) {
    if (strcmp(name, "a50") == 0) return true;
    if (name[0] != 'k' || strlen(name) != 4) return false;
    nk_noun kelvin = 0;
    for (size_t i = 1; i < 4; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
        kelvin = kelvin * 10 + (nk_noun)(name[i] - '0');
    }
    return kelvin >= 135 && kelvin <= 140 && payload == kelvin;
}

/* Work out path and arm of a location whose parent is known already. */
static void resolve(struct nk_jets *jets, const struct nk_arena *arena,
                    struct location *location) {
    char name[PATH_MAX_SIZE];
    location->jetted = false;
    location->arm = NULL;
    location->path[0] = 0;
    if (!name_text(arena, location->name, name, sizeof name)) return;
    if (location->axis == 0) {
        location->jetted = is_known_root(name, location->payload);
        return;
    }
    const struct location *parent = &jets->locations[location->parent];
    if (!parent->jetted) return;
    size_t length = strlen(parent->path), size = strlen(name);
    if (is_layer(name)) length = 0;
    if (length + size + 2 > PATH_MAX_SIZE) return;
    location->jetted = true;
    memcpy(location->path, parent->path, length);
    if (length > 0) location->path[length++] = '/';
    memcpy(location->path + length, name, size + 1);
    location->arm = arm_by_path(location->path);
}

/* ---- batteries ---- */

/* The bucket of [battery]: its newest location, or where one would go. */
static size_t bucket_of(const struct nk_jets *jets, struct nk_arena *arena,
                        nk_noun battery) {
    uint32_t mug = nk_mug(arena, battery);
    size_t mask = jets->bucket_count - 1, at = mug & mask;
    for (; jets->buckets[at] != NONE; at = (at + 1) & mask) {
        nk_noun other = jets->locations[jets->buckets[at]].battery;
        if (other == battery) break;
        if (nk_mug(arena, other) == mug && nk_equal(arena, other, battery)) break;
    }
    return at;
}

static void index_all(struct nk_jets *jets, struct nk_arena *arena) {
    size_t want = 256;
    while (want < jets->count * 2 + 2)
        want *= 2;
    if (want != jets->bucket_count) {
        free(jets->buckets);
        jets->buckets = malloc(want * sizeof *jets->buckets);
        NK_ASSERT(jets->buckets != NULL);
        jets->bucket_count = want;
    }
    memset(jets->buckets, 0xff, want * sizeof *jets->buckets);
    for (size_t i = 0; i < jets->count; i++) {
        size_t at = bucket_of(jets, arena, jets->locations[i].battery);
        jets->locations[i].same = jets->buckets[at];
        jets->buckets[at] = (uint32_t)i;
    }
}

static bool same_noun(struct nk_arena *arena, nk_noun a, nk_noun b) {
    return a == b || nk_equal(arena, a, b);
}

/* Is [core], whose battery is this location's, of it all the way up to the
 * root? */
static bool is_located(struct nk_machine *machine, nk_noun core, uint32_t first) {
    struct nk_jets *jets = machine->jets;
    struct nk_arena *arena = &machine->arena;
    nk_noun first_parent = NK_NONE, at = core;
    for (uint32_t index = first;;) {
        const struct location *location = &jets->locations[index];
        if (location->axis == 0) {
            if (!same_noun(arena, nk_tail(arena, at), location->payload)) return false;
            break;
        }
        nk_noun parent = nk_slot(arena, at, location->axis);
        if (parent == NK_NONE || !nk_is_cell(parent)) return false;
        if (index == first) first_parent = parent;
        if (location->seen == jets->era && location->seen_parent == parent &&
            location->seen_battery == nk_head(arena, at)) {
            break;
        }
        index = location->parent;
        if (!same_noun(arena, nk_head(arena, parent), jets->locations[index].battery)) {
            return false;
        }
        at = parent;
    }
    struct location *location = &jets->locations[first];
    location->seen = jets->era;
    location->seen_battery = nk_head(arena, core);
    location->seen_parent = first_parent;
    return true;
}

static uint32_t locate(struct nk_machine *machine, nk_noun core) {
    struct nk_jets *jets = machine->jets;
    if (jets->count == 0 || !nk_is_cell(core)) return NONE;
    size_t at = bucket_of(jets, &machine->arena, nk_head(&machine->arena, core));
    for (uint32_t i = jets->buckets[at]; i != NONE; i = jets->locations[i].same) {
        if (is_located(machine, core, i)) return i;
    }
    return NONE;
}

/* ---- registration ---- */

static struct location *location_new(struct nk_jets *jets) {
    if (jets->count == jets->capacity) {
        jets->capacity = jets->capacity * 2 + 64;
        jets->locations =
            realloc(jets->locations, jets->capacity * sizeof *jets->locations);
        NK_ASSERT(jets->locations != NULL);
    }
    struct location *location = &jets->locations[jets->count++];
    memset(location, 0, sizeof *location);
    location->parent = location->same = NONE;
    return location;
}

/* The parent's axis in a clue: 0 for a root, NONE where it makes no sense. */
static uint32_t parent_axis_of(const struct nk_arena *arena, nk_noun formula) {
    while (nk_is_cell(formula) && nk_head(arena, formula) == 11 &&
           nk_is_cell(nk_tail(arena, formula))) {
        formula = nk_tail(arena, nk_tail(arena, formula));
    }
    if (!nk_is_cell(formula)) return NONE;
    nk_noun op = nk_head(arena, formula), axis = nk_tail(arena, formula);
    if (op == 1 && axis == 0) return 0;
    if (op == 0 && axis >= 3 && axis < 1u << 30) return (uint32_t)axis;
    return NONE;
}

bool nk_jets_register(struct nk_machine *machine, nk_noun core, nk_noun clue) {
    struct nk_jets *jets = machine->jets;
    struct nk_arena *arena = &machine->arena;
    if (!nk_is_cell(core) || !nk_is_cell(nk_head(arena, core))) return false;
    if (!nk_is_cell(clue) || !nk_is_cell(nk_tail(arena, clue))) return false;
    if (locate(machine, core) != NONE || jets->count == LOCATIONS_MAX) return false;
    char text[PATH_MAX_SIZE];
    nk_noun name = nk_head(arena, clue);
    if (!name_text(arena, name, text, sizeof text)) return false;
    uint32_t axis = parent_axis_of(arena, nk_slot(arena, clue, 6)), parent = NONE;
    if (axis == NONE) return false;
    if (axis != 0) {
        nk_noun outer = nk_slot(arena, core, axis);
        if (outer == NK_NONE) return false;
        parent = locate(machine, outer);
        if (parent == NONE) return false;
    }
    struct location *location = location_new(jets);
    location->battery = nk_head(arena, core);
    location->name = name;
    location->payload = axis == 0 ? nk_tail(arena, core) : 0;
    location->hooks = nk_slot(arena, clue, 7);
    location->axis = axis;
    location->parent = parent;
    resolve(jets, arena, location);
    if (jets->count * 2 + 2 > jets->bucket_count) {
        index_all(jets, arena);
    } else {
        size_t at = bucket_of(jets, arena, location->battery);
        location->same = jets->buckets[at];
        jets->buckets[at] = (uint32_t)(jets->count - 1);
    }
    return true;
}

/* ---- finding ---- */

bool nk_jets_known(struct nk_machine *machine, nk_noun battery, uint64_t axis) {
    struct nk_jets *jets = machine->jets;
    if (axis != 2 || jets->count == 0) return false;
    size_t at = bucket_of(jets, &machine->arena, battery);
    for (uint32_t i = jets->buckets[at]; i != NONE; i = jets->locations[i].same) {
        if (jets->locations[i].arm != NULL) return true;
    }
    return false;
}

/* The formula that a list of hooks gives to [name], as an axis; 0 if none. */
static nk_noun hook_axis(const struct nk_arena *arena, nk_noun hooks, nk_noun name) {
    for (; nk_is_cell(hooks); hooks = nk_tail(arena, hooks)) {
        nk_noun hook = nk_head(arena, hooks);
        if (!nk_is_cell(hook) || nk_head(arena, hook) != name) continue;
        nk_noun formula = nk_tail(arena, hook);
        if (!nk_is_cell(formula)) return 0;
        nk_noun op = nk_head(arena, formula), rest = nk_tail(arena, formula);
        if (op == 0 && nk_is_atom(rest)) return rest;
        if (op != 9 || !nk_is_cell(rest)) return 0;
        nk_noun axis = nk_head(arena, rest), core = nk_tail(arena, rest);
        if (!nk_is_atom(axis) || !nk_is_cell(core)) return 0;
        return nk_head(arena, core) == 0 && nk_tail(arena, core) == 1 ? axis : 0;
    }
    return 0;
}

static nk_noun cord_of(const char *text) {
    nk_noun cord = 0;
    for (size_t i = strlen(text); i > 0; i--)
        cord = cord << 8 | (unsigned char)text[i - 1];
    return cord;
}

struct nk_arm_counts *nk_jets_find(struct nk_machine *machine, nk_noun core,
                                   uint64_t axis, uint32_t *parent_axis,
                                   nk_noun *parent) {
    struct nk_jets *jets = machine->jets;
    *parent = NK_NONE;
    uint32_t index = axis == 2 ? locate(machine, core) : NONE;
    if (index == NONE) return NULL;
    const struct location *location = &jets->locations[index];
    const struct nk_arm *arm = location->arm;
    if (arm != NULL && arm->hook != NULL &&
        hook_axis(&machine->arena, jets->locations[location->parent].hooks,
                  cord_of(arm->hook)) == 0) {
        arm = NULL;
    }
    if (location->axis != 0) {
        *parent_axis = location->axis;
        *parent = nk_slot(&machine->arena, core, location->axis);
    }
    return arm == NULL ? NULL : nk_jets_counts(jets, arm);
}

nk_noun nk_jets_hook(struct nk_machine *machine, nk_noun core, nk_noun name) {
    uint32_t index = locate(machine, core);
    if (index == NONE) return 0;
    return hook_axis(&machine->arena, machine->jets->locations[index].hooks, name);
}

const struct nk_arm *nk_jets_sham(struct nk_machine *machine, nk_noun name) {
    static const char *const layers[] = {"one/", "two/", "qua/"};
    char text[PATH_MAX_SIZE], path[PATH_MAX_SIZE + 8];
    if (!nk_is_atom(name)) return NULL;
    if (!name_text(&machine->arena, name, text, sizeof text)) return NULL;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        memcpy(path, layers[i], 4);
        memcpy(path + 4, text, strlen(text) + 1);
        const struct nk_arm *arm = arm_by_path(path);
        if (arm != NULL && arm->program == NULL) return arm;
    }
    return NULL;
}

/* ---- counters ---- */

struct nk_arm_counts *nk_jets_counts(struct nk_jets *jets, const struct nk_arm *arm) {
    size_t first = 0;
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        size_t end = jets->family_ends[f];
        if (arm >= families[f] && arm < families[f] + (end - first)) {
            return &jets->counters[first + (size_t)(arm - families[f])];
        }
        first = end;
    }
    NK_ASSERT(!"an arm of no family");
    return NULL;
}

size_t nk_jets_arm_count(const struct nk_jets *jets) {
    return jets->counter_count;
}

const struct nk_arm_counts *nk_jets_arm(const struct nk_jets *jets, size_t index) {
    return &jets->counters[index];
}

size_t nk_jets_known_count(const struct nk_jets *jets) {
    return jets->count;
}

bool nk_jets_name(struct nk_machine *machine, nk_noun core, uint64_t axis, char *out,
                  size_t size) {
    struct nk_jets *jets = machine->jets;
    uint32_t chain[16];
    size_t depth = 0, at = 0;
    for (uint32_t i = locate(machine, core); i != NONE && depth < 16;
         i = jets->locations[i].parent) {
        chain[depth++] = i;
    }
    if (depth == 0) return false;
    out[0] = 0;
    while (depth-- > 0) {
        char name[PATH_MAX_SIZE];
        const struct location *location = &jets->locations[chain[depth]];
        if (!name_text(&machine->arena, location->name, name, sizeof name)) continue;
        for (char *c = name; *c != 0; c++) {
            if (*c == ';') *c = '_'; /* the profile's own */
        }
        int n = snprintf(out + at, size - at, "%s%s", at == 0 ? "" : "/", name);
        at += n < 0 ? 0 : (size_t)n;
        if (at >= size) return true;
    }
    if (axis != 2) snprintf(out + at, size - at, "+%llu", (unsigned long long)axis);
    return true;
}

static void arm_ready(struct nk_arm_counts *counts, const struct nk_arm *arm,
                      struct nk_code *code) {
    counts->arm = arm;
    if (arm->program == NULL) return;
    counts->program = nk_stub_new(code, arm->path, arm->program);
    counts->program->jet = counts;
}

struct nk_jets *nk_jets_new(struct nk_code *code) {
    struct nk_jets *jets = calloc(1, sizeof *jets);
    NK_ASSERT(jets != NULL);
    jets->era = 1;
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        for (const struct nk_arm *arm = families[f]; arm->path != NULL; arm++)
            jets->counter_count++;
    }
    jets->counters = calloc(jets->counter_count, sizeof *jets->counters);
    NK_ASSERT(jets->counters != NULL);
    size_t at = 0;
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        for (const struct nk_arm *arm = families[f]; arm->path != NULL; arm++)
            arm_ready(&jets->counters[at++], arm, code);
        jets->family_ends[f] = at;
    }
    return jets;
}

void nk_jets_free(struct nk_jets *jets) {
    if (jets == NULL) return;
    free(jets->locations);
    free(jets->buckets);
    free(jets->counters);
    free(jets);
}

/* ---- across events ---- */

/* [battery name axis parent payload hooks], or NK_NONE. */
static nk_noun entry_noun(struct nk_arena *arena, const struct location *location) {
    nk_noun parent = location->parent == NONE ? 0 : (nk_noun)location->parent + 1;
    nk_noun parts[] = {location->battery, location->name, location->axis, parent,
                       location->payload, location->hooks};
    nk_noun noun = parts[5];
    for (size_t i = 5; i > 0 && noun != NK_NONE; i--)
        noun = nk_cons_try(arena, parts[i - 1], noun);
    return noun;
}

nk_status nk_jets_pending(struct nk_machine *machine, nk_noun *cold) {
    struct nk_jets *jets = machine->jets;
    struct nk_arena *arena = &machine->arena;
    *cold = NK_NONE;
    if (jets->committed == jets->count) return NK_OK;
    nk_noun list = machine->home.roots[NK_ROOT_COLD];
    if (list == NK_NONE) list = 0;
    for (size_t i = jets->committed; i < jets->count; i++) {
        nk_noun entry = entry_noun(arena, &jets->locations[i]);
        if (entry == NK_NONE) return NK_MEME;
        list = nk_cons_try(arena, entry, list);
        if (list == NK_NONE) return NK_MEME;
    }
    *cold = list;
    return NK_OK;
}

size_t nk_jets_slots(struct nk_jets *jets, nk_noun **slots) {
    size_t count = 0;
    for (size_t i = jets->committed; i < jets->count; i++) {
        struct location *location = &jets->locations[i];
        if (slots != NULL) {
            slots[count] = &location->battery;
            slots[count + 1] = &location->name;
            slots[count + 2] = &location->payload;
            slots[count + 3] = &location->hooks;
        }
        count += 4;
    }
    return count;
}

void nk_jets_committed(struct nk_jets *jets) {
    jets->committed = jets->count;
    jets->era++;
}

/* The buckets keep their places: nothing that stays was found behind what
 * goes, except in chains, where the newest come first. */
bool nk_jets_discard(struct nk_jets *jets) {
    jets->era++;
    if (jets->committed == jets->count) return false;
    for (size_t i = 0; i < jets->bucket_count; i++) {
        while (jets->buckets[i] != NONE && jets->buckets[i] >= jets->committed)
            jets->buckets[i] = jets->locations[jets->buckets[i]].same;
    }
    jets->count = jets->committed;
    return true;
}

nk_status nk_jets_adopt(struct nk_machine *machine) {
    struct nk_jets *jets = machine->jets;
    struct nk_arena *arena = &machine->arena;
    nk_noun list = machine->home.roots[NK_ROOT_COLD];
    jets->count = jets->committed = 0;
    size_t count = 0;
    for (nk_noun l = list; l != NK_NONE && nk_is_cell(l); l = nk_tail(arena, l))
        count++;
    for (size_t i = 0; i < count; i++)
        location_new(jets);
    for (size_t i = count; i > 0; i--, list = nk_tail(arena, list)) {
        nk_noun entry = nk_head(arena, list);
        struct location *location = &jets->locations[i - 1];
        nk_noun axis = nk_slot(arena, entry, 14), parent = nk_slot(arena, entry, 30);
        if (axis == NK_NONE || parent == NK_NONE || !nk_is_direct(axis) ||
            !nk_is_direct(parent) || parent >= i || axis >= 1u << 30 ||
            (axis == 0) != (parent == 0) || nk_slot(arena, entry, 63) == NK_NONE) {
            jets->count = 0;
            return NK_BAD;
        }
        location->battery = nk_head(arena, entry);
        location->name = nk_slot(arena, entry, 6);
        location->axis = (uint32_t)axis;
        location->parent = parent == 0 ? NONE : (uint32_t)(parent - 1);
        location->payload = nk_slot(arena, entry, 62);
        location->hooks = nk_slot(arena, entry, 63);
    }
    for (size_t i = 0; i < count; i++)
        resolve(jets, arena, &jets->locations[i]);
    index_all(jets, arena);
    jets->committed = count;
    return NK_OK;
}

void nk_jets_trace(struct nk_jets *jets, struct nk_arena *arena, nk_root_visit visit) {
    jets->era++;
    for (size_t i = jets->committed; i < jets->count; i++) {
        visit(arena, &jets->locations[i].battery);
        visit(arena, &jets->locations[i].name);
        visit(arena, &jets->locations[i].payload);
        visit(arena, &jets->locations[i].hooks);
    }
}
