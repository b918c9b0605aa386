// SPDX-License-Identifier: GPL-2.0-only
/*
 * portcullis-guard: enrols a running stock kernel in the MMIO guard.
 *
 * Under the guard, an access to a page that the kernel has not declared as MMIO
 * ends in an abort and reaches nobody. From its load on, this module declares
 * what the kernel maps as a device, and takes it back when the last mapping
 * goes. What is mapped already is found in the kernel's tables. Until the load
 * there is no guard.
 *
 * Order: probes, so that nothing is missed from then on; what is there; a test
 * that the probes see ioremap() and iounmap(); ENROLL.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "guard.h"
#include "portcullis_hvc.h"

/* (addr, end, phys, prot) of ioremap_page_range() and vmap_page_range() */
static int before_map(struct kprobe *probe, struct pt_regs *regs)
{
	struct guard_mapping mapping = {
		.va = regs->regs[0],
		.pa = regs->regs[2],
		.size = regs->regs[1] - regs->regs[0],
		.attr = regs->regs[3] >> 2 & 7,
	};

	if (guard_is_device(mapping.attr))
		guard_mapped(&mapping, false);
	return 0;
}

/* (addr) of iounmap() */
static int before_unmap(struct kprobe *probe, struct pt_regs *regs)
{
	guard_unmapped(regs->regs[0] & PAGE_MASK);
	return 0;
}

/*
 * Since 6.9 the first calls the second, which compilers may put inside of it;
 * the second alone maps PCI's I/O space. Before 6.9 there is only the first.
 */
static struct kprobe map_probes[] = {
	{ .symbol_name = "ioremap_page_range", .pre_handler = before_map },
	{ .symbol_name = "vmap_page_range", .pre_handler = before_map },
};

static struct kprobe unmap_probe = {
	.symbol_name = "iounmap", .pre_handler = before_unmap,
};

static void probes_remove(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(map_probes); i++) {
		if (map_probes[i].addr)
			unregister_kprobe(&map_probes[i]);
	}
	if (unmap_probe.addr)
		unregister_kprobe(&unmap_probe);
}

/* A probe that fails has no address left, so that it is not removed. */
static int probe_add(struct kprobe *probe)
{
	int err = register_kprobe(probe);

	if (err)
		probe->addr = NULL;
	return err;
}

static int probes_add(void)
{
	unsigned int i, seen = 0;
	int err;

	for (i = 0; i < ARRAY_SIZE(map_probes); i++) {
		if (!probe_add(&map_probes[i]))
			seen++;
	}
	err = seen ? probe_add(&unmap_probe) : -ENOENT;
	if (err)
		probes_remove();

	return err;
}

/* Without probes, nothing that is mapped later would work. */
static bool probes_see(phys_addr_t pa)
{
	unsigned long before = guard_covers(pa), mapped;
	void __iomem *p = ioremap(pa, PAGE_SIZE);

	if (!p)
		return false;
	mapped = guard_covers(pa);
	iounmap(p);

	return mapped == before + 1 && guard_covers(pa) == before;
}

static int stats_show(struct seq_file *seq, void *unused)
{
	struct guard_state state = guard_state();

	seq_printf(seq, "mappings %lu\ngranules %lu\nrefused %lu\nlost %d\n",
		   state.mappings, state.granules, state.refused, state.lost);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static int __init portcullis_guard_init(void)
{
	struct guard_state state;
	struct arm_smccc_res res;
	int err;

	if (!portcullis_has(PORTCULLIS_INFO) ||
	    !portcullis_has(PORTCULLIS_ENROLL) ||
	    !portcullis_has(PORTCULLIS_UNMAP)) {
		pr_err("no hypervisor with an MMIO guard, dialect pkvm\n");
		return -ENODEV;
	}
	res = portcullis_call(PORTCULLIS_INFO, 0, 0);
	if (res.a0 != PORTCULLIS_GRANULE) {
		pr_err("granules of %ld bytes are not supported\n",
		       (long)res.a0);
		return -EOPNOTSUPP;
	}
	guard_ranges((res.a1 & PORTCULLIS_INFO_RANGES) &&
		     portcullis_has(PORTCULLIS_RANGE_MAP) &&
		     portcullis_has(PORTCULLIS_RANGE_UNMAP));

	err = probes_add();
	if (err) {
		pr_err("ioremap() cannot be probed (%d): not enrolled\n", err);
		return err;
	}
	err = guard_walk();
	if (err) {
		pr_err("page tables of an unknown form: not enrolled\n");
		goto fail;
	}
	state = guard_state();
	if (!state.mappings || state.refused || state.lost) {
		pr_err("%lu pages refused of %lu mappings: not enrolled\n",
		       state.refused, state.mappings);
		err = -EPERM;
		goto fail;
	}
	if (!probes_see(guard_any())) {
		pr_err("the probes do not see ioremap(): not enrolled\n");
		err = -EOPNOTSUPP;
		goto fail;
	}
	res = portcullis_call(PORTCULLIS_ENROLL, 0, 0);
	if (res.a0 != SMCCC_RET_SUCCESS) {
		pr_err("ENROLL: %ld\n", (long)res.a0);
		err = -EPERM;
		goto fail;
	}

	debugfs_create_file(KBUILD_MODNAME, 0400, NULL, NULL, &stats_fops);
	state = guard_state();
	pr_info("enrolled, %lu pages of %lu mappings declared\n",
		state.granules, state.mappings);

	return 0;

fail:
	probes_remove();
	guard_forget();
	return err;
}
module_init(portcullis_guard_init);

/* There is no exit: a guard is not left before the reset of the VM. */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Enrols a running kernel in the MMIO guard");
