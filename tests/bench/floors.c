/* Floors: what the bare machine does. Compiled at the time of the bench.
 *
 *   floors echo                 copy stdin to stdout, read by read
 *   floors sink                 read stdin to its end
 *   floors dec|fib|ack|list|deep|tree|edit ROUNDS
 *       the same computation as the Nock of that name, written in C, with a
 *       cell allocated and touched wherever the Nock makes one
 *   floors copy BYTES ROUNDS    memcpy
 *
 * Prints nanoseconds of its own clock, one number a round. Cells that nobody keeps come
 * from a small ring, as a good nursery's would; cells that are kept from fresh memory.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct cell {
    uint32_t mug, tag;
    uint64_t head, tail;
};

#define RING (1u << 15)
static struct cell ring[RING];
static uint32_t at;
static volatile uint64_t sink;

static inline struct cell *cons(uint64_t head, uint64_t tail) {
    struct cell *cell = &ring[at++ & (RING - 1)];
    cell->mug = 0;
    cell->tag = 0;
    cell->head = head;
    cell->tail = tail;
    __asm__ volatile("" : : "r"(cell) : "memory");
    return cell;
}

/* One turn of a loop: a core with a new sample. */
static inline uint64_t turn(uint64_t sample) {
    struct cell *payload = cons(sample, 7);
    struct cell *core = cons(9, (uint64_t)(uintptr_t)payload);
    return ((struct cell *)(uintptr_t)core->tail)->head;
}

static uint64_t decrement(uint64_t n) {
    uint64_t i = turn(0);
    while (i + 1 != n)
        i = turn(i + 1);
    return i;
}

/* Naive addition as the Nock has it: counts up to a. */
static uint64_t add(uint64_t a, uint64_t b) {
    uint64_t i = turn(0);
    while (i != a) {
        struct cell *sample = cons(i + 1, b + 1);
        i = sample->head;
        b = sample->tail;
        turn(i);
    }
    return b;
}

static uint64_t fib(uint64_t n) {
    turn(n);
    if (n == 0) return 0;
    if (n == 1) return 1;
    uint64_t less = decrement(n);
    return add(fib(less), fib(decrement(less)));
}

static uint64_t ack(uint64_t m, uint64_t n) {
    turn((uint64_t)(uintptr_t)cons(m, n));
    if (m == 0) return n + 1;
    if (n == 0) return ack(decrement(m), 1);
    uint64_t inner = ack(m, decrement(n));
    return ack(decrement(m), inner);
}

static uint64_t list(uint64_t n) {
    struct cell *kept = malloc(n * sizeof *kept);
    uint64_t tail = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct cell cell = {0, 0, i, tail};
        kept[i] = cell;
        tail = (uint64_t)(uintptr_t)&kept[i];
        turn((uint64_t)(uintptr_t)cons(i + 1, tail));
    }
    uint64_t head = ((struct cell *)(uintptr_t)tail)->head;
    free(kept);
    return head;
}

/* Not a tail call: a frame a level, then back up. */
static uint64_t deep(uint64_t n) {
    uint64_t *stack = malloc(n * sizeof *stack);
    uint64_t depth = 0, i = n;
    while (i != 0) {
        stack[depth++] = i;
        i = turn(i - 1);
    }
    uint64_t sum = 0;
    while (depth != 0)
        sum += stack[--depth] != 0;
    free(stack);
    return sum;
}

/* A list that is copied to its end, again and again. */
static uint64_t edit(uint64_t length, uint64_t turns) {
    struct cell *from = calloc(length, sizeof *from);
    struct cell *to = malloc(length * sizeof *to);
    for (uint64_t i = 0; i < length; i++)
        from[i].tail = (uint64_t)(uintptr_t)&from[i + 1];
    while (turns-- > 0) {
        struct cell *old = from;
        for (uint64_t i = 0; i < length; i++) {
            struct cell cell = {0, 0, old->head, (uint64_t)(uintptr_t)&to[i + 1]};
            to[i] = cell;
            old = (struct cell *)(uintptr_t)old->tail;
        }
        __asm__ volatile("" : : "r"(to) : "memory");
        old = from;
        from = to;
        to = old;
    }
    uint64_t head = from->head;
    free(from);
    free(to);
    return head;
}

static struct cell *trunk;
static uint64_t tree(unsigned depth) {
    turn(depth);
    if (depth == 0) return 0;
    uint64_t left = tree(depth - 1);
    uint64_t right = tree(depth - 1);
    struct cell cell = {0, 0, left, right};
    *trunk = cell;
    return (uint64_t)(uintptr_t)trunk++;
}

static uint64_t run(const char *name) {
    if (strcmp(name, "dec") == 0) return decrement(1000000);
    if (strcmp(name, "fib") == 0) return fib(25);
    if (strcmp(name, "ack") == 0) return ack(3, 5);
    if (strcmp(name, "list") == 0) return list(1000000);
    if (strcmp(name, "deep") == 0) return deep(1000000);
    if (strcmp(name, "edit") == 0) return edit(10000, 1000);
    if (strcmp(name, "tree") == 0) {
        struct cell *kept = malloc((1u << 20) * sizeof *kept);
        trunk = kept;
        uint64_t root = tree(20);
        free(kept);
        return root;
    }
    fprintf(stderr, "floors: no computation %s\n", name);
    exit(2);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int pump(int to) {
    static char buffer[1 << 20];
    for (;;) {
        ssize_t got = read(0, buffer, sizeof buffer);
        if (got <= 0) return got == 0 ? 0 : 1;
        for (ssize_t done = 0; to >= 0 && done < got;) {
            ssize_t put = write(to, buffer + done, (size_t)(got - done));
            if (put < 0) return 1;
            done += put;
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "echo") == 0) return pump(1);
    if (argc == 2 && strcmp(argv[1], "sink") == 0) return pump(-1);
    if (argc == 4 && strcmp(argv[1], "copy") == 0) {
        size_t size = strtoull(argv[2], NULL, 10);
        char *from = malloc(size), *to = malloc(size);
        memset(from, 1, size);
        memset(to, 2, size);
        for (int i = atoi(argv[3]); i > 0; i--) {
            uint64_t begun = now();
            memcpy(to, from, size);
            __asm__ volatile("" : : "r"(to) : "memory");
            printf("%llu\n", (unsigned long long)(now() - begun));
        }
        return 0;
    }
    if (argc != 3) return 2;
    for (int i = atoi(argv[2]); i > 0; i--) {
        uint64_t begun = now();
        sink = run(argv[1]);
        printf("%llu\n", (unsigned long long)(now() - begun));
    }
    return 0;
}
