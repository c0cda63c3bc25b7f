/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames that the kernel could not redirect after the program had said "redirect": tracepoint
 * xdp_redirect_err (dev, program, target, err, map type, map id, index). It fires for every XDP program
 * of the machine; the devmap's id tells ours.
 */
#pragma once
#include "maps.h"

int redirect_failed(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, slot = ctx->args[6];
	struct settings *own = settings.lookup(&zero);
	struct port_counters *port;

	if (!own || own->tx_ports_id != (u32)ctx->args[5])
		return 0;
	port = counters.lookup(&slot);
	if (port)
		port->redirect_errors++;
	return 0;
}
