/*
 * fuzz frame: any bytes as a stream of frames. What decodes must be walkable, must
 * encode to the very bytes it came from (a WorkerRegister without census excepted:
 * it is written with one), and must decode again to the same.
 *
 * With libFuzzer (`make fuzz`) or with replay.c, which only feeds files.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "form/frame.h"

#define MAX_PAYLOAD	(1u << 20)

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
walk(struct frame_vec vec, uint32_t strings_each)
{
	struct frame_view next = vec.encoded, string;
	uint64_t n = 0;

	while (frame_vec_next(&next, &string)) {
		must(frame_is_utf8(string.data, string.len));
		n++;
	}
	must(n == (uint64_t)vec.count * strings_each);
}

static void
check_frame(const struct frame *f, const uint8_t *data, size_t used)
{
	struct buf once = { 0 }, twice = { 0 };
	struct frame again;
	size_t used_again;

	if (f->type == FRAME_WORKER_REGISTER) {
		walk(f->u.worker_register.namespaces, 1);
		walk(f->u.worker_register.activity_types, 1);
		walk(f->u.worker_register.census, 3);
	}
	must(frame_encode(&once, f) == 0);
	if (f->type != FRAME_WORKER_REGISTER || buf_len(&once) == used)
		must(buf_len(&once) == used && memcmp(buf_head(&once), data, used) == 0);
	else
		must(buf_len(&once) == used + sizeof(uint32_t));
	must(frame_decode(buf_head(&once), buf_len(&once), MAX_PAYLOAD + 4, &again, &used_again,
	    NULL) == FRAME_OK);
	must(used_again == buf_len(&once));
	must(frame_encode(&twice, &again) == 0);
	must(buf_len(&twice) == buf_len(&once) &&
	    memcmp(buf_head(&twice), buf_head(&once), buf_len(&once)) == 0);
	buf_free(&once);
	buf_free(&twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_fault fault = { 0, NULL };
	enum frame_status status;
	struct frame f;
	size_t used;

	while ((status = frame_decode(data, size, MAX_PAYLOAD, &f, &used, &fault)) == FRAME_OK) {
		must(used >= FRAME_HEADER_SIZE && used <= size);
		check_frame(&f, data, used);
		data += used;
		size -= used;
	}
	must(frame_status_reason(status) != 0);
	must(fault.text != NULL && fault.offset <= size);
	if (status == FRAME_NEED_PAYLOAD)
		must(used > size);
	return 0;
}
