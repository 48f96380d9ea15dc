/* See octets.h. */
#include "octets.h"

#include <stdlib.h>
#include <string.h>

bool nk_bytes_room(struct nk_bytes *buffer, size_t more) {
    size_t wanted = buffer->size + more;
    if (wanted <= buffer->capacity) return true;
    if (more > buffer->limit || wanted > buffer->limit) return false;
    size_t capacity = buffer->capacity * 2 + 256;
    buffer->capacity = capacity < wanted ? wanted : capacity;
    buffer->data = realloc(buffer->data, buffer->capacity);
    NK_ASSERT(buffer->data != NULL);
    return true;
}

bool nk_bytes_append(struct nk_bytes *buffer, const void *bytes, size_t size) {
    if (!nk_bytes_room(buffer, size)) return false;
    if (size > 0) memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
    return true;
}
