/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the program is compiled with. The control plane switches on what the links of the machine need
 * (controlplane/features.py); what is off leaves no instruction behind.
 */
#pragma once

#ifndef FEATURE_VLAN /* 802.1Q and 802.1ad tags, one or two */
#define FEATURE_VLAN 0
#endif
#ifndef FEATURE_UPPER /* frames that belong to a device above the one they came in on: bonds, bridges */
#define FEATURE_UPPER 0
#endif
#ifndef FEATURE_BRIDGE /* bridges that hold addresses; needs FEATURE_UPPER */
#define FEATURE_BRIDGE 0
#endif
#ifndef FEATURE_VRF /* counters by VRF */
#define FEATURE_VRF 0
#endif
