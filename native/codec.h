/* Jam surgery for the king: nouns taken apart and put together as bytes.
 *
 * The king keeps events as opaque jams; where it has to look into one or
 * to wrap it, it does so here, on the same units that the serf uses (noun,
 * nursery, mug, jam) with an arena of its own and no home. One codec per
 * thread. Plain declarations only: cffi reads this file. Python face:
 * proto/fast.py; oracle: proto/jam.py.
 */

typedef struct nk_codec nk_codec;

/* NULL when address space is refused. */
nk_codec *nk_codec_new(uint64_t nursery_size);
void nk_codec_free(nk_codec *codec);

/* All of these return 0, or -1 (not a jam, or too large: nk_codec_why), and
 * leave their bytes in the codec until its next use: nk_codec_out. */
const char *nk_codec_why(const nk_codec *codec);
const uint8_t *nk_codec_out(const nk_codec *codec);
uint64_t nk_codec_out_size(const nk_codec *codec);

/* Re-jam: the canonical jam of what the bytes cue to. */
int nk_codec_rejam(nk_codec *codec, const uint8_t *bytes, uint64_t size);

/* The noun's mug in [*mug]. */
int nk_codec_mug(nk_codec *codec, const uint8_t *bytes, uint64_t size, uint32_t *mug);

/* Jams of the nouns at [axes], one after the other; sizes[i] is UINT64_MAX
 * where the axis leaves the noun. */
int nk_codec_slots(nk_codec *codec, const uint8_t *bytes, uint64_t size,
                   const uint64_t *axes, uint64_t count, uint64_t *sizes);

/* Jam of [p0 p1 ... pn] from the jams of its parts, lying one after the
 * other in [bytes] with [sizes]. */
int nk_codec_tuple(nk_codec *codec, const uint8_t *bytes, const uint64_t *sizes,
                   uint64_t count);

/* Jam of [now ovum]: now is 128 bits, low and high word. */
int nk_codec_stamp(nk_codec *codec, uint64_t now_low, uint64_t now_high,
                   const uint8_t *bytes, uint64_t size);

/* Take a list apart: load finds the list at [axis] and counts it (-1 also
 * where it is not a list); each next leaves one item's jam as output. */
int nk_codec_list_load(nk_codec *codec, const uint8_t *bytes, uint64_t size,
                       uint64_t axis, uint64_t *count);
int nk_codec_list_next(nk_codec *codec);

/* Glance at the heads of [count] jobs, which lie one after the other in [bytes]
 * with [sizes]: see glance.h. The output is one record for each: u64 low and
 * high word of now, u32 kind, u32 size of the wire's text, u32 size of the tag,
 * u32 0; text and tag. */
int nk_codec_glance(nk_codec *codec, const uint8_t *bytes, const uint64_t *sizes,
                    uint64_t count);
