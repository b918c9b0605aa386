// SPDX-License-Identifier: GPL-2.0-only
/*
 * portcullis-pool: virtio devices of a stock kernel see one pool of memory.
 *
 * A device that another VM serves needs memory that both reach. A kernel with
 * CONFIG_DMA_RESTRICTED_POOL gives such a device the region of its node's
 * memory-region, and nothing else. Debian's kernels do not have it. This module
 * does the same for them: each device that is about to be bound to the driver
 * virtio-mmio is given DMA operations of the pool. It must be loaded before
 * that driver, and it stays.
 *
 * The pool is the region that the tree names, or else memory of this kernel's.
 * It is shared with the hypervisor (MEM_SHARE) before a device uses it. If the
 * module is missing or fails, nothing is shared: devices do not work, and no
 * memory is seen by anyone.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/virtio_anchor.h>

#include "pool.h"
#include "portcullis_hvc.h"

static unsigned int mib = 8;
module_param(mib, uint, 0444);
MODULE_PARM_DESC(mib, "MiB of the pool, if the device tree has none (1-1024)");

/**
 * struct pool_memory - memory that is to be the pool
 * @va:		the kernel's address
 * @pa:		its physical address
 * @size:	bytes, whole granules
 * @by_tree:	the device tree has reserved it
 */
struct pool_memory {
	void		*va;
	phys_addr_t	pa;
	size_t		size;
	bool		by_tree;
};

/* ---- Memory ---- */

/* The region of the first virtio device that has one. */
static int memory_of_tree(struct pool_memory *memory)
{
	struct device_node *np, *region = NULL;
	struct reserved_mem *rmem;
	bool mapped;

	for_each_compatible_node(np, NULL, "virtio,mmio") {
		region = of_parse_phandle(np, "memory-region", 0);
		if (region) {
			of_node_put(np);
			break;
		}
	}
	if (!region)
		return -ENOENT;
	rmem = of_reserved_mem_lookup(region);
	mapped = !of_property_read_bool(region, "no-map");
	of_node_put(region);
	if (!rmem || !mapped || rmem->size < PAGE_SIZE ||
	    !PAGE_ALIGNED(rmem->base) || !PAGE_ALIGNED(rmem->size) ||
	    !pfn_valid(PHYS_PFN(rmem->base))) {
		pr_err("the tree's memory-region is no memory that can be a pool\n");
		return -EINVAL;
	}
	*memory = (struct pool_memory) {
		.va = phys_to_virt(rmem->base),
		.pa = rmem->base,
		.size = rmem->size,
		.by_tree = true,
	};

	return 0;
}

static int by_address(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a;
	unsigned long y = *(const unsigned long *)b;

	return x < y ? -1 : x > y;
}

/*
 * More than the page allocator gives at once, out of the largest blocks that it
 * gives. Early, most of them are neighbours.
 */
static int memory_of_kernel(struct pool_memory *memory, size_t size)
{
	const size_t block = SZ_4M;
	unsigned int want = DIV_ROUND_UP(size, block);
	unsigned int tries = want + 32, got, i, run = 0;
	unsigned long *va = kcalloc(tries, sizeof(*va), GFP_KERNEL);

	if (!va)
		return -ENOMEM;
	for (got = 0; got < tries; got++) {
		va[got] = __get_free_pages(GFP_KERNEL | __GFP_NOWARN |
					   __GFP_NORETRY, get_order(block));
		if (!va[got])
			break;
	}
	sort(va, got, sizeof(*va), by_address, NULL);
	for (i = 0; i < got && run < want; i++)
		run = run && va[i] == va[i - 1] + block ? run + 1 : 1;
	if (run == want) {
		*memory = (struct pool_memory) {
			.va = (void *)va[i - want],
			.pa = virt_to_phys((void *)va[i - want]),
			.size = want * block,
		};
		memset(&va[i - want], 0, want * sizeof(*va));
	}
	for (i = 0; i < got; i++)
		free_pages(va[i], get_order(block)); /* 0 is ignored */
	kfree(va);

	return memory->va ? 0 : -ENOMEM;
}

static void memory_free(struct pool_memory *memory)
{
	size_t done;

	if (memory->by_tree)
		return;
	for (done = 0; done < memory->size; done += SZ_4M)
		free_pages((unsigned long)memory->va + done, get_order(SZ_4M));
}

/*
 * Shares all of it. @shared: some of it is shared now, and must never again be
 * memory of anyone else.
 */
static int memory_share(struct pool_memory *memory, bool *shared)
{
	phys_addr_t pa = memory->pa, end = memory->pa + memory->size;
	struct arm_smccc_res res;
	bool ranges = true;
	u64 n;

	*shared = false;
	if (!portcullis_has(PORTCULLIS_MEM_SHARE)) {
		pr_notice("no hypervisor that memory can be shared with\n");
		return 0;
	}
	while (pa < end) {
		n = (end - pa) / PORTCULLIS_GRANULE;
		res = portcullis_call(PORTCULLIS_MEM_SHARE, pa, ranges ? n : 0);
		if (res.a0 == SMCCC_RET_SUCCESS) {
			*shared = true;
			n = ranges ? clamp_t(u64, res.a1, 1, n) : 1;
			pa += n * PORTCULLIS_GRANULE;
		} else if (ranges) {
			ranges = false; /* other hosts do one at a time */
		} else if (!*shared) {
			/* Either way, devices see no more than the pool. */
			pr_notice("MEM_SHARE: %ld; shared already, or not at all\n",
				  (long)res.a0);
			return 0;
		} else {
			pr_err("MEM_SHARE of %pa: %ld\n", &pa, (long)res.a0);
			return -EPERM;
		}
	}

	return 0;
}

/* ---- Devices ---- */

static bool is_virtio_mmio(struct device *dev)
{
	return dev->driver && !strcmp(dev->driver->name, "virtio-mmio");
}

/* The driver core says so after dma_configure(), and before probe(). */
static int device_event(struct notifier_block *nb, unsigned long action,
			void *data)
{
	struct device *dev = data;

	if (action == BUS_NOTIFY_BIND_DRIVER && is_virtio_mmio(dev)) {
		set_dma_ops(dev, &pool_dma_ops);
		dev_info(dev, "confined to the pool\n");
	}

	return NOTIFY_OK;
}

static struct notifier_block device_events = { .notifier_call = device_event };

static int find_unconfined(struct device *dev, void *unused)
{
	return is_virtio_mmio(dev) && get_dma_ops(dev) != &pool_dma_ops;
}

/* Bound by another CPU while this one has loaded the module. */
static int release_unconfined(struct device *dev, void *unused)
{
	if (find_unconfined(dev, NULL)) {
		dev_err(dev, "bound too early, released\n");
		device_release_driver(dev);
	}

	return 0;
}

static int stats_show(struct seq_file *seq, void *unused)
{
	struct pool_usage usage = pool_usage();

	seq_printf(seq, "pages %lu\nused %lu\nmost %lu\nfailed %lu\n",
		   usage.pages, usage.used, usage.most, usage.failed);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static int __init portcullis_pool_init(void)
{
	struct pool_memory memory = {};
	bool shared = false;
	int err;

	if (IS_ENABLED(CONFIG_DMA_RESTRICTED_POOL)) {
		pr_err("this kernel has CONFIG_DMA_RESTRICTED_POOL: remove the module\n");
		return -ENODEV;
	}
	if (bus_for_each_dev(&platform_bus_type, NULL, NULL, find_unconfined)) {
		pr_err("too late: a device is bound to virtio-mmio. Load this module first\n");
		return -EBUSY;
	}

	err = memory_of_tree(&memory);
	if (err == -ENOENT) {
		if (mib < 1 || mib > 1024) {
			pr_err("mib=%u: it may be 1 to 1024\n", mib);
			return -EINVAL;
		}
		err = memory_of_kernel(&memory, (size_t)mib << 20);
		if (err)
			pr_err("no %u MiB in a row\n", mib);
	}
	if (err)
		return err;
	/* Nothing of what was there may be seen. */
	memset(memory.va, 0, memory.size);
	err = pool_init(memory.va, memory.pa, memory.size);
	if (err)
		goto free;
	err = memory_share(&memory, &shared);
	if (err)
		goto exit;

	/* A device that takes any address would be given raw ones: refuse it. */
	virtio_set_mem_acc_cb(virtio_require_restricted_mem_acc);
	err = bus_register_notifier(&platform_bus_type, &device_events);
	if (err)
		goto exit;
	bus_for_each_dev(&platform_bus_type, NULL, NULL, release_unconfined);

	debugfs_create_file(KBUILD_MODNAME, 0400, NULL, NULL, &stats_fops);
	pr_info("%zu KiB at %pa, %s\n", memory.size >> 10, &memory.pa,
		memory.by_tree ? "reserved by the tree" : "allocated");

	return 0;

exit:
	pool_exit();
free:
	if (!shared)
		memory_free(&memory);
	return err;
}
module_init(portcullis_pool_init);

/* There is no exit: virtio-mmio would use all of memory again. */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Confines virtio-mmio devices to a shared pool");
