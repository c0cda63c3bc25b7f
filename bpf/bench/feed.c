/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sends frames out of the far end of the router's ingress port, so that whichever program is on that port gets them. RATE a
 * second, evenly: until the next one is due, the test run goes round with nothing. One CPU at a time.
 */
#include "bench/frame.h"
#include "bench/write.h"

#define SECOND 1000000000ULL
#define BEHIND (RATE / 10) /* at most so many are made up for after a pause */

struct feed {
	u64 sent;
	u64 skipped;
	u64 began_ns;
};
BPF_F_TABLE("array", u32, struct feed, fed, 1, BPF_F_MMAPABLE);

int feed(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	u64 now = bpf_ktime_get_ns(), due;
	u32 zero = 0;
	struct feed *own = fed.lookup(&zero);

	if (!own || data + MIN_FRAME_LEN > data_end)
		return XDP_ABORTED;
	if (!own->began_ns)
		own->began_ns = now;
	due = (now - own->began_ns) * RATE / SECOND;
	if (own->sent + own->skipped >= due)
		return XDP_DROP;
	if (due - own->sent - own->skipped > BEHIND)
		own->skipped = due - own->sent - BEHIND;
	own->sent++;
	write_ipv4(data, 0, DESTINATION4, data_end - data - sizeof(struct ethhdr));
	return bpf_redirect(FAR_END, 0);
}
