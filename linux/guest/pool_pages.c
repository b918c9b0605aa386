// SPDX-License-Identifier: GPL-2.0-only
/*
 * What each part of the pool is used for.
 *
 * The pool is pages of 4 KiB. Blocks of 2^n free pages are on lists by n, and
 * neighbours are joined (a buddy allocator), but for some single pages: most
 * requests are for one page, and these are handed from one to the next as they
 * are. What is smaller than a slot shares a page with others of its kind: a
 * request to a disk has a header, a status and a table of a few bytes each.
 *
 * A device can write to the pool at any time. So nothing in it is used to
 * manage it: lists and addresses are in memory of the kernel's own.
 */

#include <linux/align.h>
#include <linux/bitops.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include "pool.h"

#define POOL_SHIFT	12
#define POOL_PAGE	(1UL << POOL_SHIFT)
#define SLOT_SHIFT	8
#define SLOT_SIZE	(1UL << SLOT_SHIFT)
#define SLOTS		(1U << (POOL_SHIFT - SLOT_SHIFT))
#define ALL_FREE	GENMASK(SLOTS - 1, 0)

/* The largest block, 2 MiB: the rings of a queue with 32768 entries fit in. */
#define TOP_ORDER	9
/* Single pages that are not joined with their neighbours. */
#define MAX_SINGLES	64

enum page_state {
	PAGE_INSIDE,	/* of a block, but not its first page */
	PAGE_BLOCK,	/* first of a free block */
	PAGE_SINGLE,	/* free, by itself */
	PAGE_USED,	/* in use, alone or with its neighbours */
	PAGE_SLOTS,	/* divided into slots */
};

/**
 * struct pool_page - a page of the pool
 * @node:	in blocks[], singles or with_slots, as @state says
 * @slots:	PAGE_SLOTS: the free ones
 * @order:	PAGE_BLOCK: there are 2^order pages
 * @state:	what it is used for
 */
struct pool_page {
	struct list_head	node;
	u16			slots;
	u8			order;
	u8			state;
};

static struct pool_page *pages;
static unsigned long nr_pages;
static void *base_va;
static phys_addr_t base_pa;

/*
 * Where the first byte of a slot, or of a page that is not divided, comes from
 * and goes to. An entry belongs to the owner of that part of the pool.
 */
static phys_addr_t *originals;

/* Protects blocks, singles, the states of pages but for slots, and usage. */
static DEFINE_SPINLOCK(pages_lock);
static struct list_head blocks[TOP_ORDER + 1];
static LIST_HEAD(singles);
static unsigned int nr_singles;
static struct pool_usage usage;

/* Protects with_slots and the slots in all pages. Taken before pages_lock. */
static DEFINE_SPINLOCK(slots_lock);
/* Pages with both free slots and, but for one of them, used ones. */
static LIST_HEAD(with_slots);

/* ---- Pages ---- */

static unsigned long index_of(struct pool_page *page)
{
	return page - pages;
}

static void block_put(unsigned long first, unsigned int order)
{
	for (; order < TOP_ORDER; order++) {
		unsigned long buddy = first ^ (1UL << order);

		if (buddy + (1UL << order) > nr_pages ||
		    pages[buddy].state != PAGE_BLOCK ||
		    pages[buddy].order != order)
			break;
		list_del(&pages[buddy].node);
		pages[buddy].state = PAGE_INSIDE;
		first &= ~(1UL << order);
	}
	pages[first].state = PAGE_BLOCK;
	pages[first].order = order;
	list_add(&pages[first].node, &blocks[order]);
}

/* Gives @count pages back, in as large blocks as there are in them. */
static void blocks_put(unsigned long first, unsigned long count)
{
	unsigned long i;

	for (i = first; i < first + count; i++)
		pages[i].state = PAGE_INSIDE;
	while (count) {
		unsigned int order = min_t(unsigned int, ilog2(count), TOP_ORDER);

		if (first)
			order = min_t(unsigned int, order, __ffs(first));
		block_put(first, order);
		first += 1UL << order;
		count -= 1UL << order;
	}
}

/* The first page of a block of 2^order; NULL if there is none. */
static struct pool_page *block_get(unsigned int order)
{
	struct pool_page *page;
	unsigned int found;

	for (found = order; found <= TOP_ORDER; found++) {
		page = list_first_entry_or_null(&blocks[found],
						struct pool_page, node);
		if (!page)
			continue;
		list_del(&page->node);
		/* Upper halves go back: their own buddy, the rest, is in use. */
		page->state = PAGE_INSIDE;
		while (found-- > order)
			block_put(index_of(page) + (1UL << found), found);
		return page;
	}
	return NULL;
}

static void singles_join(void)
{
	struct pool_page *page, *next;

	list_for_each_entry_safe(page, next, &singles, node) {
		list_del(&page->node);
		page->state = PAGE_INSIDE;
		block_put(index_of(page), 0);
	}
	nr_singles = 0;
}

/* @count pages in a row, aligned to the next power of two; NULL without. */
static struct pool_page *pages_get(unsigned long count, enum page_state state)
{
	unsigned int order = order_base_2(count);
	struct pool_page *page = NULL;
	unsigned long flags, i;

	spin_lock_irqsave(&pages_lock, flags);
	if (count == 1 && nr_singles) {
		page = list_first_entry(&singles, struct pool_page, node);
		list_del(&page->node);
		nr_singles--;
	} else if (order <= TOP_ORDER) {
		page = block_get(order);
		if (!page && nr_singles) {
			singles_join();
			page = block_get(order);
		}
		if (page)
			blocks_put(index_of(page) + count,
				   (1UL << order) - count);
	}
	if (page) {
		for (i = 0; i < count; i++)
			page[i].state = state;
		usage.used += count;
		usage.most = max(usage.most, usage.used);
	} else {
		usage.failed++;
	}
	spin_unlock_irqrestore(&pages_lock, flags);

	return page;
}

static void pages_put(struct pool_page *page, unsigned long count)
{
	unsigned long flags;

	spin_lock_irqsave(&pages_lock, flags);
	if (count == 1 && nr_singles < MAX_SINGLES) {
		page->state = PAGE_SINGLE;
		list_add(&page->node, &singles);
		nr_singles++;
	} else {
		blocks_put(index_of(page), count);
	}
	usage.used -= count;
	spin_unlock_irqrestore(&pages_lock, flags);
}

/* ---- Slots ---- */

static struct pool_page *slot_get(unsigned int *slot)
{
	struct pool_page *page;
	unsigned long flags;

	spin_lock_irqsave(&slots_lock, flags);
	page = list_first_entry_or_null(&with_slots, struct pool_page, node);
	if (!page) {
		page = pages_get(1, PAGE_SLOTS);
		if (page) {
			page->slots = ALL_FREE;
			list_add(&page->node, &with_slots);
		}
	}
	if (page) {
		*slot = __ffs(page->slots);
		page->slots &= page->slots - 1;
		if (!page->slots)
			list_del(&page->node);
	}
	spin_unlock_irqrestore(&slots_lock, flags);

	return page;
}

static void slot_put(struct pool_page *page, unsigned int slot)
{
	unsigned long flags;

	spin_lock_irqsave(&slots_lock, flags);
	if (!page->slots)
		list_add(&page->node, &with_slots);
	page->slots |= BIT(slot);
	/* One that is empty may stay for the next request. */
	if (page->slots == ALL_FREE && !list_is_singular(&with_slots)) {
		list_del(&page->node);
		pages_put(page, 1);
	}
	spin_unlock_irqrestore(&slots_lock, flags);
}

/* ---- For the DMA operations ---- */

/* Entry of originals for @offset in the pool, which is in use. */
static unsigned long original_index(unsigned long offset)
{
	if (pages[offset >> POOL_SHIFT].state == PAGE_SLOTS)
		return offset >> SLOT_SHIFT;
	return (offset >> POOL_SHIFT) * SLOTS;
}

/**
 * pool_get() - take a part of the pool
 * @size:	bytes, not 0
 * @original:	what they stand for
 * @addr:	where they are
 *
 * What is larger than a slot is aligned to the next power of two of its pages.
 *
 * Context: any.
 * Return: whether there was room.
 */
bool pool_get(size_t size, phys_addr_t original, dma_addr_t *addr)
{
	struct pool_page *page;
	unsigned int slot = 0;
	unsigned long offset, i, count = DIV_ROUND_UP(size, POOL_PAGE);

	if (size <= SLOT_SIZE)
		page = slot_get(&slot);
	else
		page = pages_get(count, PAGE_USED);
	if (!page)
		return false;

	offset = (index_of(page) << POOL_SHIFT) + slot * SLOT_SIZE;
	if (size <= SLOT_SIZE) {
		originals[offset >> SLOT_SHIFT] = original;
	} else {
		for (i = 0; i < count; i++)
			originals[(index_of(page) + i) * SLOTS] =
				original + i * POOL_PAGE;
	}
	*addr = base_pa + offset;

	return true;
}

/**
 * pool_put() - give it back
 * @addr:	as pool_get() returned it, and pool_inside()
 * @size:	as it was given
 */
void pool_put(dma_addr_t addr, size_t size)
{
	unsigned long offset = addr - base_pa;
	struct pool_page *page = &pages[offset >> POOL_SHIFT];

	if (size <= SLOT_SIZE)
		slot_put(page, (offset % POOL_PAGE) >> SLOT_SHIFT);
	else
		pages_put(page, DIV_ROUND_UP(size, POOL_PAGE));
}

/**
 * pool_inside() - whether a part of the pool that is in use
 * @addr:	first byte
 * @size:	bytes
 *
 * A driver that hands back what it did not get has a bug, which must not
 * become a copy to anywhere.
 */
bool pool_inside(dma_addr_t addr, size_t size)
{
	size_t length = nr_pages << POOL_SHIFT;
	u8 state;

	if (WARN_ON_ONCE(addr < base_pa || size > length || !size ||
			 addr - base_pa > length - size))
		return false;
	state = pages[(addr - base_pa) >> POOL_SHIFT].state;
	return !WARN_ON_ONCE(state != PAGE_SLOTS && state != PAGE_USED);
}

/** pool_va() - the kernel's own address of a part of the pool */
void *pool_va(dma_addr_t addr)
{
	return base_va + (addr - base_pa);
}

/** pool_original() - what a byte of the pool stands for */
phys_addr_t pool_original(dma_addr_t addr)
{
	unsigned long offset = addr - base_pa;
	unsigned long index = original_index(offset);

	return originals[index] + (offset - (index << SLOT_SHIFT));
}

/** pool_last() - address of the last byte of the pool */
dma_addr_t pool_last(void)
{
	return base_pa + (nr_pages << POOL_SHIFT) - 1;
}

/** pool_usage() - how full it is */
struct pool_usage pool_usage(void)
{
	struct pool_usage now;
	unsigned long flags;

	spin_lock_irqsave(&pages_lock, flags);
	now = usage;
	spin_unlock_irqrestore(&pages_lock, flags);

	return now;
}

/**
 * pool_init() - begin with an empty pool
 * @va:		the kernel's address of its memory
 * @pa:		the device's address of it
 * @size:	bytes, whole pages
 */
int pool_init(void *va, phys_addr_t pa, size_t size)
{
	unsigned int i;

	nr_pages = size >> POOL_SHIFT;
	base_va = va;
	base_pa = pa;
	usage.pages = nr_pages;
	pages = vcalloc(nr_pages, sizeof(*pages));
	originals = vcalloc(nr_pages * SLOTS, sizeof(*originals));
	if (!pages || !originals) {
		pool_exit();
		return -ENOMEM;
	}
	for (i = 0; i <= TOP_ORDER; i++)
		INIT_LIST_HEAD(&blocks[i]);
	blocks_put(0, nr_pages);

	return 0;
}

/** pool_exit() - forget it; no device may have it */
void pool_exit(void)
{
	vfree(originals);
	vfree(pages);
}
