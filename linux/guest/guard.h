/* SPDX-License-Identifier: GPL-2.0-only */
/* The parts of portcullis-guard: what is mapped, and how that is found out. */
#ifndef PORTCULLIS_GUARD_H
#define PORTCULLIS_GUARD_H

#include <linux/types.h>

/**
 * struct guard_mapping - device memory that the kernel has mapped
 * @va:		kernel address of its first byte
 * @pa:		where that is
 * @size:	bytes, whole pages
 * @attr:	index into MAIR_EL1
 */
struct guard_mapping {
	unsigned long	va;
	phys_addr_t	pa;
	size_t		size;
	u8		attr;
};

/**
 * struct guard_state - what has been declared
 * @mappings:	mappings that are known
 * @granules:	granules that are declared for them
 * @refused:	granules that the hypervisor did not take
 * @lost:	a mapping could not be noted, so that nothing is taken back
 */
struct guard_state {
	unsigned long	mappings;
	unsigned long	granules;
	unsigned long	refused;
	bool		lost;
};

/* guard_mappings.c: what is mapped, and so declared. */
void guard_mapped(const struct guard_mapping *mapping, bool walked);
void guard_unmapped(unsigned long va);
unsigned long guard_covers(phys_addr_t pa);
phys_addr_t guard_any(void);
struct guard_state guard_state(void);
void guard_ranges(bool available);
void guard_forget(void);

/* guard_walk.c: what the kernel's tables say. */
bool guard_is_device(u8 attr);
int guard_walk(void);

#endif
