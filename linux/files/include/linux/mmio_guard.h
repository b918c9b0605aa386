/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_MMIO_GUARD_H
#define _LINUX_MMIO_GUARD_H

#include <linux/pgtable.h>
#include <linux/types.h>

/* Whose function numbers the hypervisor serves. */
enum mmio_guard_dialect {
	MMIO_GUARD_NONE,
	MMIO_GUARD_PKVM,
	MMIO_GUARD_SERIES,
};

#ifdef CONFIG_ARM_MMIO_GUARD
enum mmio_guard_dialect mmio_guard_init(void);
bool mmio_guard_enrolled(void);

int mmio_guard_map(phys_addr_t phys, size_t size, pgprot_t prot);
void mmio_guard_unmap(const void __iomem *addr, size_t size);
void mmio_guard_cancel(phys_addr_t phys, size_t size, pgprot_t prot);
void mmio_guard_iounmap(const void *addr);
#else
static inline enum mmio_guard_dialect mmio_guard_init(void)
{
	return MMIO_GUARD_NONE;
}

static inline bool mmio_guard_enrolled(void)
{
	return false;
}

static inline int mmio_guard_map(phys_addr_t phys, size_t size, pgprot_t prot)
{
	return 0;
}

static inline void mmio_guard_unmap(const void __iomem *addr,
				    size_t size) { }
static inline void mmio_guard_cancel(phys_addr_t phys, size_t size,
				     pgprot_t prot) { }
static inline void mmio_guard_iounmap(const void *addr) { }
#endif

#endif /* _LINUX_MMIO_GUARD_H */
