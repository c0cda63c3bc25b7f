/* SPDX-License-Identifier: GPL-2.0-only */
/* Sends frames out of the far end of the router's ingress port, so that whichever program is on that port gets them. */
#include "bench/frame.h"
#include "bench/write.h"

int feed(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	if (data + MIN_FRAME_LEN > data_end)
		return XDP_ABORTED;
	write_ipv4(data, 0, DESTINATION4, data_end - data - sizeof(struct ethhdr));
	return bpf_redirect(FAR_END, 0);
}
