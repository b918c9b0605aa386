/* SPDX-License-Identifier: GPL-2.0-only */
/* The parts of portcullis-pool: its memory, and what devices do with it. */
#ifndef PORTCULLIS_POOL_H
#define PORTCULLIS_POOL_H

#include <linux/dma-map-ops.h>
#include <linux/types.h>

/**
 * struct pool_usage - how full the pool is
 * @pages:	pages of 4 KiB that it has
 * @used:	of them in use
 * @most:	the highest that @used has been
 * @failed:	how often there was not enough room
 */
struct pool_usage {
	unsigned long	pages;
	unsigned long	used;
	unsigned long	most;
	unsigned long	failed;
};

/* pool_pages.c: who has which part of the pool. */
int pool_init(void *va, phys_addr_t pa, size_t size);
void pool_exit(void);
bool pool_get(size_t size, phys_addr_t original, dma_addr_t *addr);
void pool_put(dma_addr_t addr, size_t size);
bool pool_inside(dma_addr_t addr, size_t size);
void *pool_va(dma_addr_t addr);
phys_addr_t pool_original(dma_addr_t addr);
dma_addr_t pool_last(void);
struct pool_usage pool_usage(void);

/* pool_dma.c: a device that knows no memory but the pool. */
extern const struct dma_map_ops pool_dma_ops;

#endif
