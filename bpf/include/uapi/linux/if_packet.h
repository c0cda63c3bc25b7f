/* Included by BCC; nothing in it is used by an XDP program. */
