/* The loop, included by nock.c twice: RUN is its name, and where WATCHED is 1
 * it counts, samples and checks as the machine's probe says (probe.h). The
 * plain one knows nothing of probes. */
static nk_status RUN(struct nk_machine *machine, nk_noun *product) {
    static const void *const labels[] = {
#define NK_OPCODE_LABEL(name, words, kinds) &&op_##name,
        NK_OPCODES(NK_OPCODE_LABEL)
#undef NK_OPCODE_LABEL
    };
    static const nk_helper_fn helpers[] = {
#define HELPER(name) nk_help_##name,
        NK_HELPERS(HELPER)
#undef HELPER
    };
    struct nk_arena *arena = &machine->arena;
    struct nk_stack *stack = machine->stack;
    uint64_t *const memory = arena->base;
    uint64_t top = arena->top, soft = arena->soft, need = 0;
    uint64_t *base = stack->base;
    const uint32_t *ip = stack->ip;
    struct nk_program *program = stack->program;
    int fuel = 0;
    bool tried = false;   /* a jet ran out of memory, and was tried again */
    bool pressed = false; /* the same, for a program that had no room */
    nk_status status = NK_OK;
    nk_noun a, b, value;
    struct nk_program *callee;
    struct nk_site *site;
    uint32_t length;
#if WATCHED
    struct nk_probe *probe = machine->probe;
    uint64_t seen = top;
    int patience = 0;
#endif

    GO;

#if WATCHED
watch:
    probe->instructions[*ip]++;
    if (top > seen) probe->words += top - seen;
    seen = top;
    if (--patience < 0) {
        patience = WATCH_STEPS;
        SAVE();
        status = look(machine);
        if (status != NK_OK) goto bail;
    }
    goto *labels[*ip];
#endif

op_HALT:
    SAVE();
    if (arena->stopped != NK_OK) return arena->stopped;
    *product = REG(1);
    return NK_OK;
op_BAIL:
    goto exit;
op_RETK:
    value = LITERAL(1);
    goto give;
op_RET:
    value = REG(1);
give: {
    uint64_t link = base[-1];
    const uint32_t *back = link_ip(link);
    base -= link_size(link);
    program = nk_code_of(back);
    base[back[-4]] = value;
    if (NK_UNLIKELY(base < stack->watermark)) stack->watermark = base;
    ip = back;
    GO;
}
op_MOVE:
    REG(1) = REG(2);
    NEXT(3);
op_LDK:
    REG(1) = LITERAL(2);
    NEXT(3);
op_LD2:
    a = REG(2);
    CELL_OR_EXIT(a);
    REG(1) = HEAD(a);
    NEXT(3);
op_LD3:
    a = REG(2);
    CELL_OR_EXIT(a);
    REG(1) = TAIL(a);
    NEXT(3);
#define LOAD_TWO(name, first, second)                                                  \
    op_##name : a = REG(2);                                                            \
    CELL_OR_EXIT(a);                                                                   \
    a = first(a);                                                                      \
    CELL_OR_EXIT(a);                                                                   \
    REG(1) = second(a);                                                                \
    NEXT(3);
    LOAD_TWO(LD4, HEAD, HEAD)
    LOAD_TWO(LD5, HEAD, TAIL)
    LOAD_TWO(LD6, TAIL, HEAD)
    LOAD_TWO(LD7, TAIL, TAIL)
#define LOAD_THREE(name, second, third)                                                \
    op_##name : a = REG(2);                                                            \
    CELL_OR_EXIT(a);                                                                   \
    a = TAIL(a);                                                                       \
    CELL_OR_EXIT(a);                                                                   \
    a = second(a);                                                                     \
    CELL_OR_EXIT(a);                                                                   \
    REG(1) = third(a);                                                                 \
    NEXT(3);
    LOAD_THREE(LD12, HEAD, HEAD)
    LOAD_THREE(LD13, HEAD, TAIL)
    LOAD_THREE(LD14, TAIL, HEAD)
    LOAD_THREE(LD15, TAIL, TAIL)
op_LDP: {
    a = REG(2);
    for (uint32_t path = ip[3]; path != 1; path >>= 1) {
        CELL_OR_EXIT(a);
        a = memory[nk_offset(a) + 1 + (path & 1)];
    }
    REG(1) = a;
    NEXT(4);
}
op_LDBIG:
    a = slot_noun(arena, REG(2), LITERAL(3));
    if (a == NK_NONE) goto exit;
    REG(1) = a;
    NEXT(4);
op_CONS:
    ROOM(3);
    REG(1) = CONS(REG(2), REG(3));
    NEXT(4);
op_CONSK:
    ROOM(3);
    REG(1) = CONS(LITERAL(2), REG(3));
    NEXT(4);
op_INC:
    a = REG(2);
    if (NK_LIKELY(a < NK_DIRECT_MAX)) {
        REG(1) = a + 1;
        NEXT(3);
    }
    if (nk_is_cell(a)) goto exit;
    ROOM(nk_is_direct(a) ? 4 : 4 + nk_atom_at(arena, a)->words);
    arena->top = top;
    status = nk_atom_increment(arena, a, &value);
    top = arena->top;
    if (status != NK_OK) goto bail;
    REG(1) = value;
    NEXT(3);
op_ISCELL:
    REG(1) = nk_is_cell(REG(2)) ? 0 : 1;
    NEXT(3);
op_EQ:
    a = REG(2);
    b = REG(3);
    if (NK_LIKELY(a == b || nk_is_direct(a) || nk_is_direct(b))) {
        REG(1) = a == b ? 0 : 1;
        NEXT(4);
    }
    value = nk_equal(arena, a, b) ? 0 : 1;
    if (NK_UNLIKELY(arena->stopped != NK_OK)) goto stopped;
    REG(1) = value;
    NEXT(4);
op_EQK:
    REG(1) = REG(2) == LITERAL(3) ? 0 : 1;
    NEXT(4);
op_JMP:
    ip += (int32_t)ip[1];
    GO;
op_JNE:
    a = REG(1);
    b = REG(2);
    if (a == b) NEXT(4);
    if (NK_LIKELY(nk_is_direct(a) || nk_is_direct(b)) || !nk_equal(arena, a, b)) {
        if (NK_UNLIKELY(arena->stopped != NK_OK)) goto stopped;
        ip += ip[3];
        GO;
    }
    NEXT(4);
op_JNEK:
    if (REG(1) == LITERAL(2)) NEXT(4);
    ip += ip[3];
    GO;
op_JATOM:
    if (nk_is_cell(REG(1))) NEXT(3);
    ip += ip[2];
    GO;
op_JTEST:
    a = REG(1);
    if (a == 0) NEXT(3);
    if (a != 1) goto exit;
    ip += ip[2];
    GO;

    /* Counted loops, see code.c. */
op_COUNTED:
    site = &program->sites[ip[1]];
    a = base[0];
    if (nk_is_cell(a) && site->last.key == HEAD(a) && site->last.program == program &&
        site->last.how == NK_CALLED) {
        NEXT(3);
    }
    ip += ip[2];
    GO;
op_COUNTER: {
    a = REG(2);
    for (uint32_t path = ip[3]; path != 1 && nk_is_cell(a); path >>= 1) {
        a = memory[nk_offset(a) + 1 + (path & 1)];
        if (path < 4 && nk_is_direct(a)) {
            REG(1) = a;
            NEXT(5);
        }
    }
    ip += ip[4];
    GO;
}
op_UP:
    a = REG(2);
    if (NK_LIKELY(a < NK_DIRECT_MAX)) {
        REG(1) = a + 1;
        NEXT(4);
    }
    ip += ip[3];
    GO;
op_JEQ:
    if (REG(1) != REG(2)) NEXT(4);
    ip += ip[3];
    GO;
op_ROUND:
    FUEL_OR_POLL();
    REG(1) = REG(2);
    ip += (int32_t)ip[3];
    GO;
op_EDIT2:
    a = REG(2);
    CELL_OR_EXIT(a);
    ROOM(3);
    REG(1) = CONS(REG(3), TAIL(a));
    NEXT(4);
op_EDIT3:
    a = REG(2);
    CELL_OR_EXIT(a);
    ROOM(3);
    REG(1) = CONS(HEAD(a), REG(3));
    NEXT(4);
op_EDIT6:
    a = REG(2);
    CELL_OR_EXIT(a);
    b = TAIL(a);
    CELL_OR_EXIT(b);
    ROOM(6);
    value = CONS(REG(3), TAIL(b));
    REG(1) = CONS(HEAD(a), value);
    NEXT(4);
op_EDIT7:
    a = REG(2);
    CELL_OR_EXIT(a);
    b = TAIL(a);
    CELL_OR_EXIT(b);
    ROOM(6);
    value = CONS(HEAD(b), REG(3));
    REG(1) = CONS(HEAD(a), value);
    NEXT(4);
op_EDITP: {
    uint32_t path = ip[4];
    uint64_t depth = 31u - (uint64_t)__builtin_clz(path), at = top;
    a = REG(2);
    ROOM(depth * 3);
    for (; path != 1; path >>= 1) {
        CELL_OR_EXIT(a);
        struct nk_cell *cell = (struct nk_cell *)(memory + top);
        nk_noun child[2] = {HEAD(a), TAIL(a)};
        nk_noun below = path < 4 ? REG(3) : (NK_CELL_TAG | (top + 3));
        a = child[path & 1];
        child[path & 1] = below;
        cell->mug = 0;
        cell->tag = 0;
        cell->head = child[0];
        cell->tail = child[1];
        top += 3;
    }
    REG(1) = NK_CELL_TAG | at;
    NEXT(5);
}
op_EDITBIG:
    need = edit_words(arena, LITERAL(4));
    if (NK_UNLIKELY(top + need > soft)) {
        /* Where the slot is there, the axis asks for no more than a noun has. */
        if (slot_noun(arena, REG(2), LITERAL(4)) == NK_NONE) goto exit;
        goto collect;
    }
    arena->top = top;
    value = edit_big(arena, REG(2), LITERAL(4), REG(3));
    if (value == NK_NONE) goto exit;
    top = arena->top;
    REG(1) = value;
    NEXT(5);

    /* Calls. [callee] runs with subject [a]; the call's last words end at
     * ip + length. */
call: {
    uint64_t *frame = base + ip[length - 3] + 1;
    if (NK_UNLIKELY(frame + callee->registers > stack->limit)) {
        status = stack_grow(machine, frame + callee->registers);
        if (status != NK_OK) goto bail;
    }
#if WATCHED
    uint64_t bytes = (uint64_t)((const char *)(frame + callee->registers) -
                                (const char *)stack->start);
    if (bytes > probe->stack_peak) probe->stack_peak = bytes;
#endif
    frame[-1] = link_to(ip + length);
    frame[0] = a;
    base = frame;
    program = callee;
    ip = program->code;
    GO;
}
tail_call:
    if (NK_UNLIKELY(base + callee->registers > stack->limit)) {
        status = stack_grow(machine, base + callee->registers);
        if (status != NK_OK) goto bail;
    }
    base[0] = a;
    program = callee;
    ip = program->code;
    GO;

op_NOCK:
    FUEL_OR_POLL();
    site = &program->sites[ip[1]];
    a = REG(2);
    b = REG(3);
    if (NK_UNLIKELY(site->last.key != b)) {
        status = fill_nock(machine, site, b);
        if (status != NK_OK) goto code_failed;
        pressed = false;
    }
    callee = site->last.program;
    length = 8;
    goto call;
op_TNOCK:
    FUEL_OR_POLL();
    site = &program->sites[ip[1]];
    a = REG(2);
    b = REG(3);
    if (NK_UNLIKELY(site->last.key != b)) {
        status = fill_nock(machine, site, b);
        if (status != NK_OK) goto code_failed;
        pressed = false;
    }
    callee = site->last.program;
    goto tail_call;
op_KICK:
    FUEL_OR_POLL();
    site = &program->sites[ip[1]];
    a = REG(2);
    CELL_OR_EXIT(a);
    if (NK_UNLIKELY(site->last.key != HEAD(a))) {
        status = fill_kick(machine, site, a, true);
        if (status != NK_OK) goto code_failed;
        pressed = false;
    }
    callee = site->last.program;
    NAME_CALLEE();
    length = 7;
    if (NK_UNLIKELY(site->last.how != NK_CALLED)) goto special;
    goto call;
op_TKICK:
    FUEL_OR_POLL();
    site = &program->sites[ip[1]];
    a = REG(2);
    CELL_OR_EXIT(a);
    if (NK_UNLIKELY(site->last.key != HEAD(a))) {
        status = fill_kick(machine, site, a, true);
        if (status != NK_OK) goto code_failed;
        pressed = false;
    }
    callee = site->last.program;
    NAME_CALLEE();
    length = 0;
    if (NK_UNLIKELY(site->last.how != NK_CALLED)) goto special;
    goto tail_call;
op_SLAM:
    FUEL_OR_POLL();
    site = &program->sites[ip[1]];
    a = REG(2);
    CELL_OR_EXIT(a);
    b = TAIL(a);
    CELL_OR_EXIT(b);
    if (NK_UNLIKELY(site->last.key != HEAD(a))) {
        status = fill_kick(machine, site, a, false);
        if (status != NK_OK) goto code_failed;
        pressed = false;
    }
    ROOM(6);
    value = CONS(REG(3), TAIL(b));
    a = CONS(HEAD(a), value);
    callee = site->last.program;
    NAME_CALLEE();
    length = 8;
    if (NK_UNLIKELY(site->last.how == NK_JETTED)) goto jet;
    goto call;
op_TSLAM:
    FUEL_OR_POLL();
    site = &program->sites[ip[1]];
    a = REG(2);
    CELL_OR_EXIT(a);
    b = TAIL(a);
    CELL_OR_EXIT(b);
    if (NK_UNLIKELY(site->last.key != HEAD(a))) {
        status = fill_kick(machine, site, a, false);
        if (status != NK_OK) goto code_failed;
        pressed = false;
    }
    ROOM(6);
    value = CONS(REG(3), TAIL(b));
    a = CONS(HEAD(a), value);
    callee = site->last.program;
    NAME_CALLEE();
    length = 0;
    if (NK_UNLIKELY(site->last.how == NK_JETTED)) goto jet;
    goto tail_call;

    /* A core [a] at [site] whose arm makes something of it; length 0 is a tail
     * call. */
special:
    if (site->last.how == NK_JETTED) goto jet;
    if (a == site->last.context) {
#if WATCHED
        probe->kept++;
#endif
        value = site->last.product;
    } else {
        ROOM(callee->makes);
        SAVE();
        status = make(machine, callee, a, &value);
        top = arena->top;
        if (status != NK_OK) goto bail;
        keep_product(machine, site, a, value);
    }
    if (length == 0) goto give;
    base[ip[length - 4]] = value;
    NEXT(length);

    /* A core [a] whose battery is registered, at [site]; length 0 is a tail
     * call. A jet changes no register, so the instruction can start again. */
jet: {
    SAVE();
    struct nk_arm_counts *counts = site_jet(machine, site, a);
    const struct nk_arm *arm = counts == NULL ? NULL : counts->arm;
#if WATCHED
    if (arm != NULL && probe->check && stack->checking == 0) {
        stack->to_check = arm;
        callee = stack->check_stub;
        arm = NULL;
    }
#endif
    if (arm != NULL && arm->program != NULL) {
        callee = counts->program;
        counts->hits += arm->jet == NULL;
#if WATCHED
        callee->name = nk_probe_name(probe, arm->path);
#endif
    } else if (arm != NULL) {
        status = arm->jet(machine, a, &value);
#if WATCHED
        if (probe->interval_ns != 0) sample(machine, arm->path);
#endif
        if (status == NK_MEME && !tried) {
            tried = true;
            top = arena->top;
            goto collect_full;
        }
        tried = false;
        nk_jets_count(counts, status != NK_PUNT);
        top = arena->top;
        if (status == NK_OK) {
            if (length == 0) goto give;
            base[ip[length - 4]] = value;
            NEXT(length);
        }
        if (status != NK_PUNT) goto bail;
    }
    if (length == 0) goto tail_call;
    goto call;
}

op_TRACE:
    ROOM(6);
    value = CONS(LITERAL(1), REG(2));
    machine->trace = CONS(value, machine->trace);
#if WATCHED
    nk_probe_spot(probe, base);
#endif
    NEXT(3);
op_UNTRACE:
#if WATCHED
    nk_probe_unspot(probe, base);
#endif
    machine->trace = TAIL(machine->trace);
    NEXT(1);
op_SLOG:
    SAVE();
    slog_clue(machine, REG(1));
    top = arena->top;
    NEXT(2);
op_FAST:
    SAVE();
    register_core(machine, REG(1), REG(2));
    NEXT(3);
op_MEMO: {
    enum nk_memo_kind kind = nk_memo_kind(arena, REG(2));
    uint64_t context = kind == NK_MEMO_TRANSIENT ? stack->context : 0;
    value = NK_NONE;
    if (kind == NK_MEMO_TRANSIENT || stack->handler == NO_MARK) {
        value = nk_memo_get(machine, kind, context, REG(3), LITERAL(4));
    }
    if (value == NK_NONE) NEXT(6);
    REG(1) = value;
    ip += ip[5];
    GO;
}
op_MEMOPUT: {
    enum nk_memo_kind kind = nk_memo_kind(arena, REG(2));
    uint64_t context = kind == NK_MEMO_TRANSIENT ? stack->context : 0;
    if (kind == NK_MEMO_TRANSIENT || stack->handler == NO_MARK) {
        nk_memo_put(machine, kind, context, REG(3), LITERAL(4), REG(1));
    }
    NEXT(5);
}
op_LOOP:
    if (loops_has(machine, REG(1), LITERAL(2))) {
        status = NK_FAIL;
        goto bail;
    }
    ROOM(6);
    value = CONS(REG(1), LITERAL(2));
    stack->loops = CONS(value, stack->loops);
    NEXT(3);
op_UNLOOP:
    stack->loops = TAIL(stack->loops);
    NEXT(1);
op_JINX: {
    uint64_t outer = machine->deadline_ns;
    a = REG(2);
    REG(1) = outer;
    if (nk_is_atom(a)) {
        uint64_t deadline = now_ns() + ns_of_dr(arena, a);
        if (outer == 0 || deadline < outer) machine->deadline_ns = deadline;
    }
    NEXT(3);
}
op_UNJINX:
    machine->deadline_ns = REG(1);
    NEXT(2);
op_BOUT:
    REG(1) = now_ns();
    NEXT(2);
op_UNBOUT:
    SAVE();
    report_time(machine, REG(1), ip[3] != 0 ? REG(2) : 0);
    top = arena->top;
    NEXT(4);
op_HINT:
    SAVE();
    report(machine, LITERAL(1));
    top = arena->top;
    NEXT(2);
op_SHAM: {
    const struct nk_arm *arm = NULL;
    if (machine->jets_enabled) arm = nk_jets_sham(machine, REG(2));
    if (arm == NULL) NEXT(5);
    SAVE();
    status = arm->jet(machine, REG(3), &value);
    top = arena->top;
    if (status == NK_MEME && !tried) {
        tried = true;
        goto collect_full;
    }
    tried = false;
    nk_jets_count(nk_jets_counts(machine->jets, arm), status != NK_PUNT);
#if WATCHED
    if (probe->check) nk_jets_counts(machine->jets, arm)->unchecked++;
#endif
    if (status == NK_PUNT) NEXT(5);
    if (status != NK_OK) goto bail;
    REG(1) = value;
    ip += ip[4];
    GO;
}

    /* Virtual runs. */
op_MINK: {
    FUEL_OR_POLL();
    a = REG(1);
    b = REG(2);
    status = nk_code_get(machine->code, arena, b, &callee);
    if (status != NK_OK && status != NK_EXIT) goto code_failed;
    pressed = false;
    struct mark *mark = mark_push(machine, MARK_MINK);
    if (mark == NULL) {
        status = NK_OVER;
        goto bail;
    }
    mark->base = base;
    mark->ip = ip + ip[4];
    mark->program = program;
    mark->gate = REG(3);
    stack->handler = stack->mark_count - 1;
    machine->trace = 0;
    if (status != NK_OK) goto exit;
    length = 9;
    goto call;
}
op_MINKDONE:
    ROOM(3);
    REG(1) = CONS(0, REG(2));
    mark_pop(machine);
    NEXT(3);
op_UNWOUND:
    ROOM(3);
    REG(1) = CONS(stack->result_tag, stack->result);
    stack->result = 0;
    NEXT(2);
op_SCRY: {
    FUEL_OR_POLL();
    if (stack->handler == NO_MARK) goto exit;
    ROOM(9);
    uint32_t owner = stack->handler;
    nk_noun gate = stack->marks[owner].gate;
    nk_noun outer_trace = machine->trace;
    value = CONS(REG(1), REG(2));
    struct mark *mark = mark_push(machine, MARK_SCRY);
    if (mark == NULL) {
        status = NK_OVER;
        goto bail;
    }
    mark->owner = owner;
    mark->gate = 0;
    mark->trace = outer_trace;
    stack->handler = stack->marks[owner].handler;
    machine->trace = 0;
    CELL_OR_EXIT(gate);
    b = TAIL(gate);
    CELL_OR_EXIT(b);
    status = nk_code_get(machine->code, arena, HEAD(gate), &callee);
    if (status != NK_OK) goto bail;
    value = CONS(value, TAIL(b));
    a = CONS(HEAD(gate), value);
    length = 7;
    goto call;
}
op_SCRYDONE: {
    /* ~: blocked; [~ ~]: no such thing, ever; [~ ~ value] */
    ROOM(9);
    mark_pop(machine);
    value = REG(2);
    if (value == 0) {
        machine->block = REG(4);
        status = NK_BLOCK;
        goto bail;
    }
    CELL_OR_EXIT(value);
    value = TAIL(value);
    if (nk_is_atom(value)) {
        b = CONS(REG(3), REG(4));
        b = CONS(NK_CORD_4('h', 'u', 'n', 'k'), b);
        machine->trace = CONS(b, machine->trace);
        goto exit;
    }
    REG(1) = TAIL(value);
    NEXT(5);
}
op_HOOK:
    a = nk_jets_hook(machine, REG(2), LITERAL(3));
    a = a == 0 ? NK_NONE : slot_noun(arena, REG(2), a);
    if (a == NK_NONE) goto exit;
    REG(1) = a;
    NEXT(4);
    /* For programs by hand. */
op_DO:
    SAVE();
    status = helpers[ip[1]](machine, REG(3), REG(4), REG(5), &value);
    top = arena->top;
    if (status == NK_MEME && !tried) {
        tried = true;
        goto collect_full;
    }
    tried = false;
    if (status == NK_PUNT) goto decline;
    if (status != NK_OK) goto bail;
    REG(2) = value;
    NEXT(6);
op_DECLINE:
decline:
    a = base[0];
    status = nk_code_get(machine->code, arena, nk_head(arena, a), &callee);
    if (status != NK_OK) goto code_failed;
    pressed = false;
    struct nk_arm_counts *declined = program->jet;
    declined->hits--;
    declined->misses++;
    goto tail_call;

    /* Checks of jets; the plain loop never meets them. */
op_CHECK:
#if WATCHED
{
    const struct nk_arm *arm = stack->to_check;
    SAVE();
    if (arm->program != NULL) {
        struct mark *mark = mark_check(machine, ip, base, REG(1));
        if (mark == NULL) {
            status = NK_OVER;
            goto bail;
        }
        struct nk_arm_counts *counts = nk_jets_counts(machine->jets, arm);
        callee = counts->program;
        counts->hits += arm->jet == NULL;
        callee->name = nk_probe_name(probe, arm->path);
        a = REG(1);
        length = CHECK_WORDS;
        goto call;
    }
    status = arm->jet(machine, REG(1), &value);
    if (status == NK_MEME && !tried) {
        tried = true;
        top = arena->top;
        goto collect_full;
    }
    tried = false;
    top = arena->top;
    nk_jets_count(nk_jets_counts(machine->jets, arm), status != NK_PUNT);
    if (status == NK_PUNT) {
        ip += ip[3];
        GO;
    }
    if (status != NK_OK && status != NK_EXIT) goto bail;
    struct mark *mark = mark_check(machine, ip, base, REG(1));
    if (mark == NULL) {
        status = NK_OVER;
        goto bail;
    }
    mark->jet_trace = machine->trace;
    REG(4) = status == NK_OK ? value : 0;
    if (status != NK_OK) check_next(machine, mark, status);
    NEXT(CHECK_WORDS);
}
#endif
op_RECHECK:
#if WATCHED
{
    struct mark *mark = &stack->marks[stack->mark_count - 1];
    mark->gate = REG(1);
    if (mark->phase == CHECK_JET) check_next(machine, mark, NK_OK);
    NEXT(2);
}
#endif
op_CHECKED:
#if WATCHED
    SAVE();
    status = check_compare(machine, REG(2));
    top = arena->top;
    if (status != NK_OK) goto bail;
    NEXT(3);
#endif
    status = NK_FAIL;
    goto bail;

    /* An arm that is remembered: its jet is none, but gives the key. */
op_RECALL:
    SAVE();
    status = program->jet->arm->jet(machine, REG(3), &value);
    top = arena->top;
    if (status == NK_MEME && !tried) {
        tried = true;
        goto collect_full;
    }
    tried = false;
    if (status == NK_PUNT) {
        REG(1) = 0;
        REG(2) = 0;
        NEXT(5);
    }
    if (status != NK_OK) goto bail;
    REG(2) = value;
    value = nk_memo_get(machine, NK_MEMO_TRANSIENT, stack->context, value, 0);
    nk_jets_count(program->jet, value != NK_NONE);
    REG(1) = value == NK_NONE ? 0 : value;
    if (value == NK_NONE) NEXT(5);
    ip += ip[4];
    GO;
op_RECORD:
    if (nk_is_cell(REG(2)) && nk_compiler_keeps(arena, REG(3), REG(2), REG(1))) {
        nk_memo_put(machine, NK_MEMO_TRANSIENT, stack->context, REG(2), 0, REG(1));
    }
    NEXT(4);

refuel:
    status = poll(machine);
    if (status != NK_OK) goto bail;
    fuel = FUEL;
    AGAIN;

    /* Make room for [need] words and start the instruction again. */
collect:
    SAVE();
#if WATCHED
    note_nursery(machine);
#endif
    status = nk_nursery_collect(arena, need);
    top = arena->top;
    soft = arena->soft;
    if (soft < top + need) soft = top + need;
#if WATCHED
    if (probe->interval_ns != 0) sample(machine, "(collection)");
    seen = top;
#endif
    if (status != NK_OK) goto bail;
    AGAIN;

    /* No program: what a collection drops may make room for it. */
code_failed:
    if (status != NK_MEME || pressed) goto bail;
    pressed = true;
collect_full:
    SAVE();
    nk_nursery_collect_full(arena);
    top = arena->top;
#if WATCHED
    seen = top;
#endif
    soft = arena->soft;
    AGAIN;

stopped:
    status = arena->stopped;
    goto bail;
exit:
    status = NK_EXIT;
bail:
    SAVE();
    tried = false;
    if (!unwind(machine, &status)) return status;
    base = stack->base;
    ip = stack->ip;
    program = stack->program;
    top = arena->top;
#if WATCHED
    nk_probe_unwound(probe, base + 1);
#endif
    if (base < stack->watermark) stack->watermark = base;
    GO;
}
