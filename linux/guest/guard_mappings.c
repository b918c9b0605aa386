// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device memory that the kernel has mapped, and its declaration.
 *
 * A granule is declared as long as some mapping covers it. So it is declared
 * with the first and taken back with the last; the list of mappings is the
 * count. A machine has some dozens of them.
 *
 * Called from probes, where nothing may sleep.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "guard.h"
#include "portcullis_hvc.h"

struct known_mapping {
	struct list_head	node;
	struct guard_mapping	is;
};

/* Protects all below. Nothing is printed under it: consoles are MMIO. */
static DEFINE_RAW_SPINLOCK(guard_lock);
static LIST_HEAD(known);
static struct guard_state state;
static bool ranges;

/*
 * The first part of [*start, end) that no mapping covers is [*start, *stop).
 * False if all of it is covered.
 */
static bool next_uncovered(phys_addr_t *start, phys_addr_t *stop,
			   phys_addr_t end)
{
	struct known_mapping *other;
	bool moved;

	do {
		moved = false;
		*stop = end;
		list_for_each_entry(other, &known, node) {
			phys_addr_t first = other->is.pa;
			phys_addr_t behind = first + other->is.size;

			if (first <= *start && *start < behind) {
				*start = behind;
				moved = true;
			} else if (first > *start) {
				*stop = min(*stop, first);
			}
		}
	} while (moved && *start < end);

	return *start < end;
}

/* Declares [pa, end), or takes that back. Returns the granules not done. */
static unsigned long tell(bool declare, phys_addr_t pa, phys_addr_t end, u8 attr)
{
	struct arm_smccc_res res;
	unsigned long failed = 0;
	u64 n;

	while (pa < end) {
		n = (end - pa) / PORTCULLIS_GRANULE;
		if (ranges && n > 1) {
			res = portcullis_call(declare ? PORTCULLIS_RANGE_MAP :
					      PORTCULLIS_RANGE_UNMAP, pa, n);
			n = clamp_t(u64, res.a1, 1, n);
		} else {
			/* The type has the place that it has in a descriptor. */
			res = portcullis_call(declare ? PORTCULLIS_MAP :
					      PORTCULLIS_UNMAP, pa, attr << 2);
			n = 1;
		}
		if (res.a0 != SMCCC_RET_SUCCESS) {
			failed++;
			n = 1;
		} else if (declare) {
			state.granules += n;
		} else {
			state.granules -= min_t(u64, n, state.granules);
		}
		pa += n * PORTCULLIS_GRANULE;
	}

	return failed;
}

/* Takes back what no mapping covers any more. */
static unsigned long sweep(phys_addr_t pa, size_t size, u8 attr)
{
	phys_addr_t end = pa + size, stop;
	unsigned long failed = 0;

	if (state.lost)
		return 0;
	for (; next_uncovered(&pa, &stop, end); pa = stop)
		failed += tell(false, pa, stop, attr);

	return failed;
}

static bool overlap(const struct guard_mapping *a, const struct guard_mapping *b)
{
	return a->va < b->va + b->size && b->va < a->va + a->size;
}

/**
 * guard_mapped() - a mapping is about to be made, or was found
 * @mapping:	what is mapped. Nothing happens if that is RAM
 * @walked:	it was found, and counts only if nothing better is known
 *
 * A mapping that is known already at these addresses is gone: its kernel has
 * used them again, or has not made it in the end.
 */
void guard_mapped(const struct guard_mapping *mapping, bool walked)
{
	phys_addr_t pa = mapping->pa, end = pa + mapping->size, stop;
	struct known_mapping *new, *other, *next;
	unsigned long flags, refused = 0;
	LIST_HEAD(gone);

	if (!mapping->size || pfn_is_map_memory(PHYS_PFN(pa)))
		return;
	new = kmalloc(sizeof(*new), GFP_ATOMIC | __GFP_NOWARN);

	raw_spin_lock_irqsave(&guard_lock, flags);
	list_for_each_entry(other, &known, node) {
		if (!overlap(&other->is, mapping))
			continue;
		if (walked || (other->is.va == mapping->va &&
			       other->is.pa == pa &&
			       other->is.size == mapping->size))
			goto out;
	}
	for (; next_uncovered(&pa, &stop, end); pa = stop)
		refused += tell(true, pa, stop, mapping->attr);
	state.refused += refused;

	/* First the new one, so that what both cover is declared all along. */
	list_for_each_entry_safe(other, next, &known, node) {
		if (overlap(&other->is, mapping)) {
			list_move(&other->node, &gone);
			state.mappings--;
		}
	}
	if (new) {
		new->is = *mapping;
		list_add(&new->node, &known);
		state.mappings++;
		new = NULL;
	} else {
		state.lost = true;
	}
	list_for_each_entry(other, &gone, node)
		sweep(other->is.pa, other->is.size, other->is.attr);
out:
	raw_spin_unlock_irqrestore(&guard_lock, flags);

	kfree(new);
	list_for_each_entry_safe(other, next, &gone, node)
		kfree(other);
	if (refused)
		pr_err("%lu of %zu pages at %pa cannot be declared\n", refused,
		       mapping->size / PORTCULLIS_GRANULE, &mapping->pa);
}

/**
 * guard_unmapped() - a mapping is about to go
 * @va: its first byte
 */
void guard_unmapped(unsigned long va)
{
	struct known_mapping *mapping, *found = NULL;
	unsigned long flags, failed = 0;

	raw_spin_lock_irqsave(&guard_lock, flags);
	list_for_each_entry(mapping, &known, node) {
		if (mapping->is.va == va) {
			found = mapping;
			list_del(&found->node);
			state.mappings--;
			failed = sweep(found->is.pa, found->is.size,
				       found->is.attr);
			break;
		}
	}
	raw_spin_unlock_irqrestore(&guard_lock, flags);

	if (failed)
		pr_err("%lu of %zu pages at %pa stay declared\n", failed,
		       found->is.size / PORTCULLIS_GRANULE, &found->is.pa);
	kfree(found);
}

/** guard_covers() - how many mappings cover the page at @pa */
unsigned long guard_covers(phys_addr_t pa)
{
	struct known_mapping *mapping;
	unsigned long flags, count = 0;

	raw_spin_lock_irqsave(&guard_lock, flags);
	list_for_each_entry(mapping, &known, node) {
		if (pa - mapping->is.pa < mapping->is.size)
			count++;
	}
	raw_spin_unlock_irqrestore(&guard_lock, flags);

	return count;
}

/** guard_any() - some page that is declared; 0 if none is */
phys_addr_t guard_any(void)
{
	struct known_mapping *mapping;
	phys_addr_t pa = 0;
	unsigned long flags;

	raw_spin_lock_irqsave(&guard_lock, flags);
	mapping = list_first_entry_or_null(&known, struct known_mapping, node);
	if (mapping)
		pa = mapping->is.pa;
	raw_spin_unlock_irqrestore(&guard_lock, flags);

	return pa;
}

/** guard_state() - what has been declared */
struct guard_state guard_state(void)
{
	struct guard_state now;
	unsigned long flags;

	raw_spin_lock_irqsave(&guard_lock, flags);
	now = state;
	raw_spin_unlock_irqrestore(&guard_lock, flags);

	return now;
}

/** guard_ranges() - whether there are calls for ranges; before all others */
void guard_ranges(bool available)
{
	ranges = available;
}

/** guard_forget() - take everything back; nothing may be probed any more */
void guard_forget(void)
{
	struct known_mapping *mapping, *next;
	unsigned long flags;
	LIST_HEAD(all);

	raw_spin_lock_irqsave(&guard_lock, flags);
	list_splice_init(&known, &all);
	list_for_each_entry(mapping, &all, node)
		tell(false, mapping->is.pa, mapping->is.pa + mapping->is.size,
		     0);
	raw_spin_unlock_irqrestore(&guard_lock, flags);

	list_for_each_entry_safe(mapping, next, &all, node)
		kfree(mapping);
}
