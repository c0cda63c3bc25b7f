/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC's helpers ask for these two. XDP programs are not checked against the kernel's version. */
#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + (patch))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 18, 0)
