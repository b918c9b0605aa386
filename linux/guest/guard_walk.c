// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device memory in the kernel's own page tables (DDI 0487, chapter D8).
 *
 * The tables are read as the CPU reads them, from TTBR1_EL1 on, since a module
 * has no other way to them. Other CPUs may change them meanwhile: what they map
 * is seen by the probes.
 */

#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/sizes.h>

#include <asm/sysreg.h>

#include "guard.h"

#define DESC_VALID	BIT(0)
#define DESC_TABLE	BIT(1)	/* at level 3: a page */
#define DESC_ADDR	GENMASK_ULL(47, 12)
#define TCR_T1SZ_SHIFT	16
#define TCR_SIZE_MASK	0x3f
#define TCR_52_BIT_PA	BIT_ULL(59)

/* log2 of what an entry at @level covers, with pages of 4 KiB. */
#define LEVEL_SHIFT(level) (12 + 9 * (3 - (level)))

/**
 * guard_is_device() - whether a type is not cacheable
 * @attr: index into MAIR_EL1
 *
 * Device types have 0 in the upper half of their byte; Normal-NC is 0x44.
 */
bool guard_is_device(u8 attr)
{
	u8 type = read_sysreg(mair_el1) >> (8 * attr);

	return !(type & 0xf0) || type == 0x44;
}

/* Neighbours become one mapping, as they were made. */
static void walk_leaf(struct guard_mapping *run, unsigned long va,
		      phys_addr_t pa, size_t size, u8 attr)
{
	if (run->size && va == run->va + run->size &&
	    pa == run->pa + run->size && attr == run->attr) {
		run->size += size;
		return;
	}
	guard_mapped(run, true);
	*run = (struct guard_mapping) {
		.va = va, .pa = pa, .size = size, .attr = attr,
	};
}

static void walk_table(struct guard_mapping *run, phys_addr_t table,
		       unsigned long va, int level, unsigned int from,
		       unsigned int to)
{
	const u64 *entries = phys_to_virt(table);
	unsigned int i;

	for (i = from; i < to; i++) {
		u64 desc = READ_ONCE(entries[i]);
		unsigned long here = va + ((unsigned long)i << LEVEL_SHIFT(level));
		size_t size = BIT_ULL(LEVEL_SHIFT(level));
		u8 attr = desc >> 2 & 7;

		if (!(desc & DESC_VALID))
			continue;
		if (level < 3 && (desc & DESC_TABLE))
			walk_table(run, desc & DESC_ADDR, here, level + 1, 0,
				   512);
		else if (guard_is_device(attr))
			walk_leaf(run, here, desc & DESC_ADDR & ~(size - 1),
				  size, attr);
	}
}

/**
 * guard_walk() - tell guard_mapped() of all device memory that is mapped
 *
 * The lower half of the kernel's addresses is its linear map: RAM.
 *
 * Return: 0, or -EOPNOTSUPP for tables that are not understood.
 */
int guard_walk(void)
{
	u64 tcr = read_sysreg(tcr_el1);
	unsigned int bits = 64 - (tcr >> TCR_T1SZ_SHIFT & TCR_SIZE_MASK);
	int level = 4 - DIV_ROUND_UP(bits - 12, 9);
	unsigned int entries = 1U << (bits - LEVEL_SHIFT(level));
	struct guard_mapping run = {};

	if (PAGE_SIZE != SZ_4K || (tcr & TCR_52_BIT_PA) || level < 0)
		return -EOPNOTSUPP;
	walk_table(&run, read_sysreg(ttbr1_el1) & DESC_ADDR,
		   ~0UL << bits, level, entries / 2, entries);
	guard_mapped(&run, true);

	return 0;
}
