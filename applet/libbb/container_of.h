/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
#ifndef CONTAINER_OF_H
#define CONTAINER_OF_H

#include <stddef.h>

/* The struct that has *p as its member, as in Linux. */
#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))

#endif
