// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's side of a hypervisor's MMIO guard.
 *
 * A guest trusts whoever emulates its devices: an access outside its RAM,
 * meant or not, is handed to that party. Under a guard it is not. The guest
 * enrols, and from then on the hypervisor answers any access outside RAM with
 * a synchronous external abort, unless the guest has declared the page to be
 * MMIO before.
 *
 * What the kernel maps with a device memory type, or as Normal-NC, is declared
 * while it is mapped. Pages are counted, so that one which two drivers map
 * stays declared until the second of them is gone. Mappings with a cacheable
 * type are memory, whoever provides it; they are not declared, and neither is
 * what userspace maps.
 *
 * There are two tables of function numbers, "pkvm" and "series". The same
 * number means different things in them (4 shares memory in one and declares
 * MMIO in the other), so a table is never guessed from less than what proves
 * it.
 */

#define pr_fmt(fmt) "mmio_guard: " fmt

#include <linux/align.h>
#include <linux/arm-smccc.h>
#include <linux/bitfield.h>
#include <linux/bits.h>
#include <linux/console.h>
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/mmio_guard.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include <asm/fixmap.h>
#include <asm/hypervisor.h>
#include <asm/memory.h>
#include <asm/pgtable-prot.h>

#define GUARD_FUNC(nr)							\
	ARM_SMCCC_CALL_VAL(ARM_SMCCC_FAST_CALL, ARM_SMCCC_SMC_64,	\
			   ARM_SMCCC_OWNER_VENDOR_HYP, (nr))

/* Result of pKVM's INFO: there are calls for ranges. */
#define GUARD_INFO_RANGE	BIT(0)

/**
 * struct guard_table - the function numbers of a dialect
 * @name:	for people
 * @info:	size of a granule
 * @enroll:	makes the guard active, until reset
 * @map:	declares the granule at x1; x2 may tell its memory type
 * @unmap:	takes that back
 * @range_map:	declares x2 granules from x1 on, or only some, if not 0
 * @range_unmap: takes that back
 */
struct guard_table {
	const char	*name;
	u8		info;
	u8		enroll;
	u8		map;
	u8		unmap;
	u8		range_map;
	u8		range_unmap;
};

static const struct guard_table guard_tables[] = {
	[MMIO_GUARD_PKVM] = {
		.name = "pkvm", .info = 5, .enroll = 6, .map = 7, .unmap = 8,
		.range_map = 10, .range_unmap = 11,
	},
	[MMIO_GUARD_SERIES] = {
		.name = "series", .info = 2, .enroll = 3, .map = 4, .unmap = 5,
	},
};

/* What the command line asks for. */
static enum mmio_guard_dialect requested __initdata;

/* Fixed when the guard is entered. */
static bool enrolled __ro_after_init;
static struct guard_table guard __ro_after_init;
static u64 granule __ro_after_init;

/**
 * struct guard_range - granules that are declared, all as often
 * @node:	in guard_ranges, sorted by address, or in guard_spare
 * @start:	its first byte, a multiple of the granule
 * @end:	behind its last byte
 * @count:	mappings that have them
 * @type:	index into MAIR_EL1 of the mapping that declared them
 *
 * Ranges do not overlap. Where mappings do, there is a range for each part,
 * with the number of mappings that share it. Machines have some dozens.
 */
struct guard_range {
	struct list_head	node;
	u64			start;
	u64			end;
	unsigned int		count;
	u8			type;
};

/* Protects all below. Nothing is printed under it: consoles are MMIO. */
static DEFINE_MUTEX(guard_lock);
static LIST_HEAD(guard_ranges);
/* The first ones are for what is mapped before there is a slab allocator. */
static struct guard_range guard_first[16];
static LIST_HEAD(guard_spare);
static unsigned int guard_spares;
static unsigned long guard_calls;

/**
 * struct guard_failure - to be told once the lock is free
 * @addr:	what could not be declared, or not be taken back
 * @what:	why, for people
 * @piece:	start of the piece outside RAM that has @addr
 */
struct guard_failure {
	u64		addr;
	const char	*what;
	u64		piece;
};

/* ---- Hypercalls ---- */

static void guard_call(u8 func, u64 arg1, u64 arg2, struct arm_smccc_res *res)
{
	arm_smccc_1_1_hvc(GUARD_FUNC(func), arg1, arg2, 0, res);
	guard_calls++;
}

/*
 * Declares [start, end) or takes that back. Returns where it stopped: end, or
 * the granule that the hypervisor refused.
 */
static u64 guard_tell(bool map, u64 start, u64 end, u8 type)
{
	u8 range = map ? guard.range_map : guard.range_unmap;
	u8 one = map ? guard.map : guard.unmap;
	struct arm_smccc_res res;

	while (start < end) {
		u64 left = (end - start) / granule;

		/* Only the call for one granule tells the memory type. */
		if (!range || left == 1) {
			guard_call(one, start, map ? PTE_ATTRINDX(type) : 0,
				   &res);
			res.a1 = 1;
		} else {
			guard_call(range, start, left, &res);
		}
		if (res.a0 != SMCCC_RET_SUCCESS)
			break;
		/* Progress, and no more than was asked for. */
		if (!res.a1 || res.a1 > left)
			break;
		start += res.a1 * granule;
	}

	return start;
}

/* ---- Ranges and their counts ---- */

static struct guard_range *guard_take(u64 start, u64 end, unsigned int count,
				      u8 type)
{
	struct guard_range *range;

	range = list_first_entry(&guard_spare, struct guard_range, node);
	list_del(&range->node);
	guard_spares--;

	range->start = start;
	range->end = end;
	range->count = count;
	range->type = type;

	return range;
}

static void guard_drop(struct guard_range *range)
{
	list_move(&range->node, &guard_spare);
	guard_spares++;
}

/* Makes sure that guard_take() works @wanted times. */
static int guard_reserve(unsigned int wanted)
{
	while (guard_spares < wanted) {
		struct guard_range *range;

		if (!slab_is_available())
			return -ENOMEM;
		range = kmalloc(sizeof(*range), GFP_KERNEL);
		if (!range)
			return -ENOMEM;
		list_add(&range->node, &guard_spare);
		guard_spares++;
	}

	return 0;
}

/* Lets a range end at @addr, if one reaches across it. */
static void guard_split(u64 addr)
{
	struct guard_range *range, *rest;

	list_for_each_entry(range, &guard_ranges, node) {
		if (range->start >= addr)
			return;
		if (range->end > addr) {
			rest = guard_take(addr, range->end, range->count,
					  range->type);
			range->end = addr;
			list_add(&rest->node, &range->node);
			return;
		}
	}
}

/* Joins neighbours that differ in nothing. */
static void guard_join(void)
{
	struct guard_range *range, *next;

	list_for_each_entry_safe(range, next, &guard_ranges, node) {
		if (list_entry_is_head(next, &guard_ranges, node))
			return;
		if (range->end == next->start && range->count == next->count &&
		    range->type == next->type) {
			next->start = range->start;
			guard_drop(range);
		}
	}
}

/* The first range that ends behind @addr, or the head. */
static struct guard_range *guard_find(u64 addr)
{
	struct guard_range *range;

	list_for_each_entry(range, &guard_ranges, node) {
		if (range->end > addr)
			break;
	}

	return range;
}

/* Drops what has no mapping in [start, end), and the declaration of it. */
static int guard_sweep(u64 start, u64 end, struct guard_failure *failure)
{
	struct guard_range *range, *next;
	int err = 0;

	list_for_each_entry_safe(range, next, &guard_ranges, node) {
		u64 stop;

		if (range->end <= start || range->start >= end || range->count)
			continue;
		stop = guard_tell(false, range->start, range->end, 0);
		if (stop != range->end) {
			failure->addr = stop;
			failure->what = "stays declared";
			err = -EIO;
		}
		guard_drop(range);
	}
	guard_join();

	return err;
}

/* One more mapping of [start, end): all of it is declared, or nothing changes. */
static int guard_get(u64 start, u64 end, u8 type, struct guard_failure *failure)
{
	struct guard_range *range;
	unsigned int pieces = 0;
	u64 addr = start;
	int err;

	list_for_each_entry(range, &guard_ranges, node) {
		if (range->end > start && range->start < end)
			pieces++;
	}
	/* Two that are split, and the gaps around and between. */
	err = guard_reserve(2 + pieces + 1);
	if (err) {
		failure->addr = start;
		failure->what = "cannot be declared, out of memory";
		return err;
	}
	guard_split(start);
	guard_split(end);

	range = guard_find(start);
	while (addr < end) {
		bool last = list_entry_is_head(range, &guard_ranges, node);
		u64 stop = last ? end : min(range->start, end);

		if (addr < stop) {
			struct guard_range *gap;
			u64 done = guard_tell(true, addr, stop, type);

			if (done > addr) {
				gap = guard_take(addr, done, 0, type);
				list_add_tail(&gap->node, &range->node);
			}
			if (done != stop) {
				struct guard_failure ignored;

				failure->addr = done;
				failure->what = "cannot be declared";
				guard_sweep(start, end, &ignored);
				return -EPERM;
			}
		}
		if (last || stop == end)
			break;
		addr = range->end;
		range = list_next_entry(range, node);
	}

	list_for_each_entry(range, &guard_ranges, node) {
		if (range->end > start && range->start < end)
			range->count++;
	}
	guard_join();

	return 0;
}

/* One mapping of [start, end) less. */
static int guard_put(u64 start, u64 end, u8 type, struct guard_failure *failure)
{
	struct guard_range *range;
	u64 addr = start;
	int err, swept;

	err = guard_reserve(2);
	if (err) {
		failure->addr = start;
		failure->what = "stays declared, out of memory";
		return err;
	}
	guard_split(start);
	guard_split(end);

	for (range = guard_find(start); addr < end; addr = range->end,
	     range = list_next_entry(range, node)) {
		bool last = list_entry_is_head(range, &guard_ranges, node);

		if (last || range->start > addr) {
			failure->addr = addr;
			failure->what = "was not declared";
			err = -ENOENT;
		}
		if (last || range->start >= end)
			break;
		range->count--;
	}
	swept = guard_sweep(start, end, failure);

	return swept ?: err;
}

/* ---- What is MMIO ---- */

static u8 guard_type(pgprot_t prot)
{
	return FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(prot));
}

static bool guard_is_device(u8 type)
{
	return type == MT_DEVICE_nGnRE || type == MT_DEVICE_nGnRnE;
}

static bool guard_is_mmio(u8 type)
{
	return guard_is_device(type) || type == MT_NORMAL_NC;
}

/*
 * The first piece at or behind *@from and before @end that is not RAM, in whole
 * granules. RAM is what firmware says it is, whether or not it may be mapped.
 */
static bool guard_outside_ram(u64 *from, u64 *to, u64 end)
{
	struct memblock_region *region;

	*to = end;
	for_each_mem_region(region) {
		u64 ram = ALIGN_DOWN(region->base, granule);
		u64 ram_end = ALIGN(region->base + region->size, granule);

		if (ram_end <= *from)
			continue;
		if (ram > *from) {
			*to = min(ram, end);
			break;
		}
		*from = ram_end;
	}

	return *from < *to;
}

typedef int (*guard_step)(u64 start, u64 end, u8 type,
			  struct guard_failure *failure);

/* @step for all of [start, end) that is not RAM, until one fails. */
static int guard_each(u64 start, u64 end, u8 type, guard_step step,
		      struct guard_failure *failure)
{
	u64 from = start, to;
	int err;

	for (; guard_outside_ram(&from, &to, end); from = to) {
		err = step(from, to, type, failure);
		if (err) {
			failure->piece = from;
			return err;
		}
	}

	return 0;
}

/* What maps a kernel address. Returns the size of the entry, or of the hole. */
static unsigned long guard_entry(unsigned long va, bool *valid,
				 phys_addr_t *phys, pgprot_t *prot)
{
	pgd_t *pgdp = pgd_offset_k(va);
	p4d_t *p4dp;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;
	pte_t pte;

	*valid = false;
	if (pgd_none(READ_ONCE(*pgdp)))
		return PGDIR_SIZE;
	p4dp = p4d_offset(pgdp, va);
	if (p4d_none(READ_ONCE(*p4dp)))
		return P4D_SIZE;

	pudp = pud_offset(p4dp, va);
	pud = READ_ONCE(*pudp);
	if (pud_none(pud))
		return PUD_SIZE;
	if (pud_leaf(pud)) {
		*valid = true;
		*phys = PFN_PHYS(pud_pfn(pud)) + (va & ~PUD_MASK);
		*prot = pud_pgprot(pud);
		return PUD_SIZE;
	}

	pmdp = pmd_offset(pudp, va);
	pmd = READ_ONCE(*pmdp);
	if (pmd_none(pmd))
		return PMD_SIZE;
	if (pmd_leaf(pmd)) {
		*valid = true;
		*phys = PFN_PHYS(pmd_pfn(pmd)) + (va & ~PMD_MASK);
		*prot = pmd_pgprot(pmd);
		return PMD_SIZE;
	}

	pte = __ptep_get(pte_offset_kernel(pmdp, va));
	if (pte_valid(pte)) {
		*valid = true;
		*phys = PFN_PHYS(pte_pfn(pte)) + (va & ~PAGE_MASK);
		*prot = pte_pgprot(pte);
	}
	return PAGE_SIZE;
}

/*
 * @step for all MMIO that is mapped at kernel addresses [va, end), in pieces as
 * large as they come. The fixmap has memory with type Normal-NC too.
 */
static int guard_each_mapped(unsigned long va, unsigned long end, bool fixmap,
			     guard_step step, struct guard_failure *failure)
{
	phys_addr_t phys = 0, start = 0, stop = 0;
	struct guard_failure this;
	u8 type = 0, last = 0;
	pgprot_t prot;
	int ret = 0;

	for (;;) {
		unsigned long next = end;
		bool valid = false;
		int err;

		if (va < end) {
			unsigned long size = guard_entry(va, &valid, &phys, &prot);

			/* The last entry of all addresses ends at 0. */
			next = ALIGN_DOWN(va, size) + size;
			if (next - 1 > end - 1)
				next = end;
		}
		if (valid) {
			type = guard_type(prot);
			valid = fixmap ? guard_is_device(type) :
					 guard_is_mmio(type);
		}
		if (start < stop && (!valid || phys != stop || type != last)) {
			err = guard_each(start, stop, last, step, &this);
			if (err) {
				*failure = this;
				ret = err;
			}
			start = stop;
		}
		if (va >= end)
			return ret;
		if (valid) {
			if (start >= stop)
				start = phys;
			stop = phys + (next - va);
			last = type;
		}
		va = next;
	}
}

static void guard_complain(const struct guard_failure *failure)
{
	pr_err("%#llx %s\n", failure->addr, failure->what);
}

/* ---- For those that map ---- */

/**
 * mmio_guard_enrolled() - whether pages are declared at all
 */
bool mmio_guard_enrolled(void)
{
	return enrolled;
}

static int guard_change(phys_addr_t phys, size_t size, pgprot_t prot,
			guard_step step, guard_step undo)
{
	struct guard_failure failure, ignored;
	u64 start, end;
	u8 type = guard_type(prot);
	int err;

	/* Who maps nothing, or across the end of all addresses, is told so. */
	if (!enrolled || !guard_is_mmio(type) || !size || phys + size - 1 < phys)
		return 0;
	start = ALIGN_DOWN(phys, PAGE_SIZE);
	end = ALIGN(phys + size, PAGE_SIZE);

	mutex_lock(&guard_lock);
	err = guard_each(start, end, type, step, &failure);
	/* The piece that failed has undone its own part. */
	if (err && undo)
		guard_each(start, failure.piece, type, undo, &ignored);
	mutex_unlock(&guard_lock);
	if (err)
		guard_complain(&failure);

	return err;
}

/**
 * mmio_guard_map() - declare pages that are about to be mapped
 * @phys: where they are
 * @size: how many bytes; all pages with one of them are meant
 * @prot: how they will be mapped
 *
 * Does nothing for what is cacheable, and for what is RAM.
 *
 * Context: may sleep.
 * Return: 0, or an error after which nothing is declared that was not before.
 */
int mmio_guard_map(phys_addr_t phys, size_t size, pgprot_t prot)
{
	return guard_change(phys, size, prot, guard_get, guard_put);
}

/**
 * mmio_guard_cancel() - the pages were not mapped after all
 * @phys: as given to mmio_guard_map()
 * @size: the same
 * @prot: the same
 */
void mmio_guard_cancel(phys_addr_t phys, size_t size, pgprot_t prot)
{
	guard_change(phys, size, prot, guard_put, NULL);
}

/**
 * mmio_guard_unmap() - give up the pages of a mapping that is about to go
 * @addr: a kernel address, mapped to what mmio_guard_map() was told of
 * @size: how many bytes are mapped there
 *
 * Context: may sleep.
 */
void mmio_guard_unmap(const void __iomem *addr, size_t size)
{
	unsigned long va = (unsigned long)addr & PAGE_MASK;
	unsigned long end = PAGE_ALIGN((unsigned long)addr + size);
	bool fixmap = va >= FIXADDR_TOT_START && va < FIXADDR_TOP;
	struct guard_failure failure;
	int err;

	if (!enrolled)
		return;

	mutex_lock(&guard_lock);
	err = guard_each_mapped(va, end, fixmap, guard_put, &failure);
	mutex_unlock(&guard_lock);
	if (err)
		guard_complain(&failure);
}

/**
 * mmio_guard_iounmap() - the same for a mapping of ioremap()
 * @addr: the page where it begins
 */
void mmio_guard_iounmap(const void *addr)
{
	struct vm_struct *area;

	if (!enrolled)
		return;
	area = find_vm_area(addr);
	if (area && area->flags & VM_IOREMAP)
		mmio_guard_unmap((void __iomem *)area->addr,
				 get_vm_area_size(area));
}

/* ---- Entering the guard ---- */

static int __init guard_param(char *arg)
{
	if (!arg || !*arg || !strcmp(arg, guard_tables[MMIO_GUARD_PKVM].name))
		requested = MMIO_GUARD_PKVM;
	else if (!strcmp(arg, guard_tables[MMIO_GUARD_SERIES].name))
		requested = MMIO_GUARD_SERIES;
	else
		requested = MMIO_GUARD_NONE;
	if (requested == MMIO_GUARD_NONE && strcmp(arg, "off"))
		pr_warn("ioremap_guard=%s: it may be pkvm, series or off\n", arg);
	return 0;
}
early_param("ioremap_guard", guard_param);

/* Which call fails, for tests: no hypervisor here gives such answers. */
static char guard_fails[8] __initdata;

#ifdef CONFIG_ARM_MMIO_GUARD_TEST
static int __init guard_fails_param(char *arg)
{
	return arg && strscpy(guard_fails, arg, sizeof(guard_fails)) > 0 ?
	       0 : -EINVAL;
}
early_param("mmio_guard_fails", guard_fails_param);
#endif

/* A call on the way into the guard; with @failure in place of its result. */
static void __init guard_ask(const char *name, u8 func, unsigned long failure,
			     struct arm_smccc_res *res)
{
	if (!strcmp(guard_fails, name))
		*res = (struct arm_smccc_res) { .a0 = failure };
	else
		guard_call(func, 0, 0, res);
}

/* Whether the hypervisor's feature map allows, or even proves, the table. */
static bool __init guard_offered(enum mmio_guard_dialect dialect)
{
	const struct guard_table *table = &guard_tables[dialect];

	if (!kvm_arm_hyp_service_available(table->info) ||
	    !kvm_arm_hyp_service_available(table->enroll) ||
	    !kvm_arm_hyp_service_available(table->map) ||
	    !kvm_arm_hyp_service_available(table->unmap))
		return false;
	/* The series has no function 7. */
	return dialect == MMIO_GUARD_PKVM || !kvm_arm_hyp_service_available(7);
}

/*
 * The early console's page is refused. Once it is gone, the first proper
 * console prints the log from its beginning.
 */
static void __init guard_drop_early_consoles(void)
{
	struct console *con, *early;

	/* Before one goes with a message, which the others would print. */
	console_list_lock();
	for_each_console(con) {
		if (con->flags & CON_BOOT)
			console_srcu_write_flags(con, con->flags & ~CON_ENABLED);
	}
	console_list_unlock();

	do {
		early = NULL;
		console_list_lock();
		for_each_console(con) {
			if (con->flags & CON_BOOT)
				early = con;
		}
		console_list_unlock();
		if (early)
			unregister_console(early);
	} while (early);
}

/**
 * mmio_guard_init() - enrol, if the command line wants that
 *
 * Called as soon as the hypervisor's services are known, when only fixmap
 * slots can map devices: early_ioremap() and the early console.
 *
 * Return: the dialect that the hypervisor serves, as far as it is known.
 */
enum mmio_guard_dialect __init mmio_guard_init(void)
{
	enum mmio_guard_dialect dialect = requested;
	struct guard_failure failure;
	struct arm_smccc_res res;
	u64 ranges;
	int i, err;

	if (dialect == MMIO_GUARD_NONE)
		return dialect;
	if (!guard_offered(dialect)) {
		pr_warn("the hypervisor does not offer the calls of ioremap_guard=%s%s; not enrolled\n",
			guard_tables[dialect].name,
			guard_offered(MMIO_GUARD_SERIES) ?
			", but may offer those of ioremap_guard=series" : "");
		return MMIO_GUARD_NONE;
	}
	guard = guard_tables[dialect];

	guard_ask("info", guard.info, 2 * PAGE_SIZE, &res);
	if ((long)res.a0 <= 0 || res.a0 > PAGE_SIZE || !is_power_of_2(res.a0)) {
		pr_warn("granule of %ld, with pages of %lu; not enrolled\n",
			(long)res.a0, PAGE_SIZE);
		return dialect;
	}
	granule = res.a0;
	ranges = dialect == MMIO_GUARD_PKVM ? res.a1 & GUARD_INFO_RANGE : 0;
	if (!ranges || !kvm_arm_hyp_service_available(guard.range_map))
		guard.range_map = 0;
	if (!ranges || !kvm_arm_hyp_service_available(guard.range_unmap))
		guard.range_unmap = 0;
	for (i = 0; i < ARRAY_SIZE(guard_first); i++) {
		list_add(&guard_first[i].node, &guard_spare);
		guard_spares++;
	}

	/*
	 * From the call on until the consoles' pages are declared nothing may
	 * be printed, and no interrupt taken.
	 */
	guard_ask("enroll", guard.enroll, SMCCC_RET_NOT_SUPPORTED, &res);
	if (res.a0 != SMCCC_RET_SUCCESS) {
		pr_warn("enrolment failed (%ld); not enrolled\n", (long)res.a0);
		return dialect;
	}
	enrolled = true;
	mutex_lock(&guard_lock);
	err = guard_each_mapped(FIXADDR_TOT_START, FIXADDR_TOP, true, guard_get,
				&failure);
	mutex_unlock(&guard_lock);
	if (err) {
		guard_drop_early_consoles();
		guard_complain(&failure);
	}

	pr_info("enrolled: %s, granules of %llu bytes%s\n", guard.name, granule,
		guard.range_map ? ", ranges" : "");
	return dialect;
}

/* ---- For people ---- */

#ifdef CONFIG_DEBUG_FS
static const char *guard_type_name(u8 type)
{
	switch (type) {
	case MT_DEVICE_nGnRnE:
		return "Device-nGnRnE";
	case MT_DEVICE_nGnRE:
		return "Device-nGnRE";
	case MT_NORMAL_NC:
		return "Normal-NC";
	default:
		return "?";
	}
}

static int guard_declared_show(struct seq_file *seq, void *unused)
{
	struct guard_range *range;
	u64 granules = 0;

	mutex_lock(&guard_lock);
	list_for_each_entry(range, &guard_ranges, node) {
		granules += (range->end - range->start) / granule;
		seq_printf(seq, "%#018llx-%#018llx %8llu %4u %s\n",
			   range->start, range->end - 1,
			   (range->end - range->start) / granule, range->count,
			   guard_type_name(range->type));
	}
	seq_printf(seq, "# %llu granules of %llu bytes, %lu hypercalls, %s\n",
		   granules, granule, guard_calls, guard.name);
	mutex_unlock(&guard_lock);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(guard_declared);

static int __init guard_debugfs(void)
{
	struct dentry *dir;

	if (!enrolled)
		return 0;
	dir = debugfs_create_dir("mmio_guard", NULL);
	debugfs_create_file("declared", 0400, dir, NULL, &guard_declared_fops);

	return 0;
}
late_initcall(guard_debugfs);
#endif
