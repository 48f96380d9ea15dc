/* See image.h. A pin's slots are spared from the save that wrote it until the
 * superblock that does not have it any more is no longer the only one: as with
 * generations, the one before has to stay usable.
 */
#include "image_inside.h"

/* --- Reading -------------------------------------------------------------- */

/* A slot that is referred to, compared. */
static bool read_ref(const struct nk_image *image, const struct ref *ref, void *out) {
    return ref->slot >= RING_COUNT && ref->slot < image->slot_count &&
           read_slots(image->fd, out, ref->slot, 1) && sum_equal(sum_of(out), ref->sum);
}

nk_status nk_image_pins_read(const struct nk_image *image, const struct super *super,
                             struct pin_directory *directory, char message[256]) {
    message[0] = 0;
    memset(directory, 0, sizeof *directory);
    if (super->pins.slot == 0) return NK_OK;
    if (read_ref(image, &super->pins, directory) &&
        directory->head.magic == PINS_MAGIC && directory->head.index <= NK_PINS_MAX) {
        for (unsigned i = 0; i < NK_PINS_MAX; i++)
            directory->pins[i].name[NK_PIN_NAME_SIZE - 1] = 0;
        return NK_OK;
    }
    say(message, "generation %llu: its pins, in slot %u, are damaged",
        (unsigned long long)super->generation, super->pins.slot);
    memset(directory, 0, sizeof *directory);
    return NK_BAD;
}

nk_status nk_image_pin_super(const struct nk_image *image,
                             const struct pin_entry *entry, struct super *super,
                             char message[256]) {
    if (read_ref(image, &entry->super, super) &&
        memcmp(super->magic, super_magic, sizeof super_magic) == 0 &&
        sum_equal(super->sum, super_sum(super)) &&
        super->generation == entry->generation) {
        return NK_OK;
    }
    say(message, "pin %s: its superblock, in slot %u, is damaged", entry->name,
        entry->super.slot);
    return NK_BAD;
}

static void add(struct pins *pins, const struct pin_entry *entry, bool released) {
    NK_ASSERT(pins->count < sizeof pins->pins / sizeof *pins->pins);
    pins->pins[pins->count++] = (struct pin){*entry, released, {NULL, 0}};
}

void nk_image_pins_free(struct pins *pins) {
    for (unsigned i = 0; i < pins->count; i++)
        free(pins->pins[i].used.words);
    memset(pins, 0, sizeof *pins);
}

void nk_image_pins_load(struct nk_image *image, const struct super *super,
                        char message[256]) {
    struct pins *pins = &image->pins;
    struct pin_directory directory;
    nk_image_pins_free(pins);
    pins->known = true;
    if (nk_image_pins_read(image, super, &directory, message) != NK_OK) return;
    pins->directory = super->pins;
    for (unsigned i = 0; i < directory.head.index; i++)
        add(pins, &directory.pins[i], false);
    nk_image_pins_list(image);
}

void nk_image_pins_list(struct nk_image *image) {
    struct pins *pins = &image->pins;
    pins->known = image->base.number != 0;
    pins->listed_count = 0;
    for (unsigned i = 0; i < pins->count; i++) {
        const struct pin *pin = &pins->pins[i];
        if (pin->released) continue;
        struct nk_pin *listed = &pins->listed[pins->listed_count++];
        memcpy(listed->name, pin->entry.name, sizeof listed->name);
        listed->generation = pin->entry.generation;
        listed->event = pin->entry.event;
    }
}

unsigned nk_image_pins(const struct nk_image *image, struct nk_pin out[NK_PINS_MAX],
                       char message[256]) {
    unsigned order[RING_COUNT];
    struct pin_directory directory;
    message[0] = 0;
    if (image->pins.known || image->save != NULL) {
        memcpy(out, image->pins.listed, image->pins.listed_count * sizeof *out);
        return image->pins.listed_count;
    }
    if (nk_image_ring_order(image, order) == 0) return 0;
    (void)nk_image_pins_read(image, &image->supers[order[0]], &directory, message);
    for (unsigned i = 0; i < directory.head.index; i++) {
        memcpy(out[i].name, directory.pins[i].name, sizeof out[i].name);
        out[i].generation = directory.pins[i].generation;
        out[i].event = directory.pins[i].event;
    }
    return directory.head.index;
}

/* --- Asking ---------------------------------------------------------------- */

static bool is_name(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size >= NK_PIN_NAME_SIZE) return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789-._") == size;
}

/* A refusal takes back all that was asked. */
static nk_status refuse(struct nk_image *image) {
    if (image->save == NULL) image->pins.pin[0] = image->pins.unpin[0] = 0;
    return NK_BAD;
}

/* NULL: no generation is pinned under it. */
static struct pin *find(struct pins *pins, const char *name) {
    for (unsigned i = 0; i < pins->count; i++) {
        struct pin *pin = &pins->pins[i];
        if (!pin->released && strcmp(pin->entry.name, name) == 0) return pin;
    }
    return NULL;
}

static nk_status ask(struct nk_image *image, const char *name, char *asked,
                     char message[256]) {
    message[0] = 0;
    if (image->save != NULL) {
        say(message, "image: a save is under way");
        return refuse(image);
    }
    if (!is_name(name)) {
        say(message, "image: a pin's name is 1 to %u letters, digits and -._",
            NK_PIN_NAME_SIZE - 1);
        return refuse(image);
    }
    memcpy(asked, name, strlen(name) + 1);
    return NK_OK;
}

nk_status nk_image_unpin(struct nk_image *image, const char *name, char message[256]) {
    return ask(image, name, image->pins.unpin, message);
}

nk_status nk_image_pin(struct nk_image *image, const char *name, char message[256]) {
    struct pins *pins = &image->pins;
    nk_status status = ask(image, name, pins->pin, message);
    if (status != NK_OK) return status;
    bool replaces = find(pins, pins->unpin) != NULL;
    if (strcmp(name, pins->unpin) != 0 && find(pins, name) != NULL) {
        say(message, "image: there is a pin %s already", name);
        return refuse(image);
    }
    if (pins->listed_count - replaces >= NK_PINS_MAX) {
        say(message, "image: %u generations are pinned; let one go first", NK_PINS_MAX);
        return refuse(image);
    }
    return NK_OK;
}

/* --- Saving ---------------------------------------------------------------- */

/* Where its tables cannot be read, a pinned generation is lost, and nobody can
 * say which slots it would need. */
static void find_used(struct nk_image *image, struct pin *pin) {
    struct super super;
    struct generation g;
    char message[256];
    if (nk_image_pin_super(image, &pin->entry, &super, message) != NK_OK) return;
    if (nk_image_generation_read(image, &super, &g, NULL, message) != NK_OK) return;
    pin->used = g.used;
    g.used = (struct bits){NULL, 0};
    generation_free(&g);
}

void nk_image_pins_find(struct nk_image *image) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order);
    struct pins *pins = &image->pins;
    struct pin_directory directory;
    char message[256];
    if (pins->found) return;
    pins->found = true;
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        if (super->generation >= image->base.number) continue;
        if (nk_image_pins_read(image, super, &directory, message) == NK_OK)
            pins->before = super->pins;
        break;
    }
    for (unsigned i = 0; pins->before.slot != 0 && i < directory.head.index; i++) {
        const struct pin_entry *entry = &directory.pins[i];
        const struct pin *same = find(pins, entry->name);
        if (same == NULL || same->entry.generation != entry->generation)
            add(pins, entry, true);
    }
    for (unsigned i = 0; i < pins->count; i++)
        find_used(image, &pins->pins[i]);
}

static void spare(struct bits *taken, const struct ref *ref) {
    if (ref->slot != 0 && ref->slot < taken->count) bits_set(taken, ref->slot);
}

void nk_image_pins_spare(const struct nk_image *image, struct bits *taken) {
    const struct pins *pins = &image->pins;
    spare(taken, &pins->directory);
    spare(taken, &pins->before);
    for (unsigned i = 0; i < pins->count; i++) {
        spare(taken, &pins->pins[i].entry.super);
        bits_add(taken, &pins->pins[i].used);
    }
}

/* The file has become shorter; no pin has a slot beyond its end. */
void nk_image_pins_trim(struct nk_image *image, uint64_t slot_count) {
    for (unsigned i = 0; i < image->pins.count; i++)
        bits_trim(&image->pins.pins[i].used, slot_count);
}

/* Is this pin to stay? */
static bool stays(const struct pins *pins, const struct pin *pin) {
    return !pin->released && strcmp(pin->entry.name, pins->unpin) != 0;
}

unsigned nk_image_pins_plan(const struct nk_image *image,
                            struct pin_directory *directory) {
    const struct pins *pins = &image->pins;
    unsigned count = 0, before = 0;
    memset(directory, 0, sizeof *directory);
    for (unsigned i = 0; i < pins->count; i++) {
        before += !pins->pins[i].released;
        if (stays(pins, &pins->pins[i])) directory->pins[count++] = pins->pins[i].entry;
    }
    bool changed = count != before || pins->pin[0] != 0;
    if (pins->pin[0] != 0) {
        struct pin_entry *entry = &directory->pins[count++];
        memcpy(entry->name, pins->pin, sizeof entry->name);
    }
    directory->head.magic = PINS_MAGIC;
    directory->head.index = count;
    if (!changed) return 0;
    return (count > 0 ? 1u : 0u) + (pins->pin[0] != 0 ? 1u : 0u);
}

nk_status nk_image_pins_write(const struct nk_image *image, const uint32_t *slots,
                              unsigned count, struct pin_directory *directory,
                              struct super *super, char message[256]) {
    const struct pins *pins = &image->pins;
    bool written = true;
    if (pins->pin[0] != 0) {
        struct pin_entry *entry = &directory->pins[directory->head.index - 1];
        super->sum = super_sum(super);
        entry->generation = super->generation;
        entry->event = super->event;
        entry->super = (struct ref){slots[1], 0, sum_of(super)};
        written = write_slots(image->fd, super, slots[1], 1);
    }
    if (directory->head.index == 0) return NK_OK; /* the last one goes */
    super->format = NK_IMAGE_FORMAT;
    if (count == 0) {
        super->pins = pins->directory;
        return NK_OK;
    }
    directory->head.generation = super->generation;
    super->pins = (struct ref){slots[0], 0, sum_of(directory)};
    if (written && write_slots(image->fd, directory, slots[0], 1)) return NK_OK;
    say(message, "image: cannot write pins: %s", strerror(errno));
    return NK_IO;
}

void nk_image_pins_saved(struct nk_image *image, const struct pin_directory *directory,
                         const struct super *super) {
    struct pins *pins = &image->pins;
    unsigned kept = 0;
    for (unsigned i = 0; i < pins->count; i++) {
        struct pin *pin = &pins->pins[i];
        if (pin->released) {
            free(pin->used.words);
            continue;
        }
        pin->released = !stays(pins, pin);
        pins->pins[kept++] = *pin;
    }
    pins->count = kept;
    pins->before = pins->directory;
    pins->directory = super->pins;
    if (pins->pin[0] == 0) return;
    add(pins, &directory->pins[directory->head.index - 1], false);
    bits_add(&pins->pins[pins->count - 1].used, &image->base.used);
}
