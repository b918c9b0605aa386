// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings on request, to see what the MMIO guard makes of them:
 *
 *   # cd /sys/kernel/debug/mmio_guard
 *   # echo map 0xa000000 0x1000 device > test && cat test
 *   0
 *   # echo read 0 > test && cat test
 *   0x74657374
 *   # echo unmap 0 > test
 *
 * A write does one thing, or fails; what is read is the last result.
 *
 *   map ADDRESS SIZE TYPE   ioremap(); TYPE is device, np, wc or cache, or io for
 *                           pci_remap_iospace(). Result: the mapping's number
 *   read NUMBER             the first 32 bits of a mapping
 *   unmap NUMBER
 *   early                   what mmio_guard_test=ADDRESS on the command line saw:
 *                           the state of the page before early_ioremap(), then
 *                           while it is mapped twice, once, and not any more; a
 *                           large number where granules of the page differ
 *   host                    the hypervisor's own count of declared granules
 *   page ADDRESS            its state of a page, and the memory type it was told
 *
 * The last two, and early, are calls of Portcullis that other hypervisors do not
 * have. mmio_guard_fails=info or =enroll on the command line lets the guard's call
 * of that name fail.
 */

#include <linux/align.h>
#include <linux/arm-smccc.h>
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/mmio_guard.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <asm/early_ioremap.h>

#define PORTCULLIS_FUNC(nr)						\
	ARM_SMCCC_CALL_VAL(ARM_SMCCC_FAST_CALL, ARM_SMCCC_SMC_64,	\
			   ARM_SMCCC_OWNER_VENDOR_HYP, 0xf000 + (nr))
#define PORTCULLIS_VERSION	PORTCULLIS_FUNC(0)
#define PORTCULLIS_QUERY_PAGE	PORTCULLIS_FUNC(1)
#define PORTCULLIS_COUNTERS	PORTCULLIS_FUNC(2)
#define PORTCULLIS_MAJOR	1

/* Where in the I/O space a mapping of type io goes. */
#define TEST_PORT		0x100000

struct test_mapping {
	void __iomem	*addr;
	struct resource	ports;
};

static DEFINE_MUTEX(test_lock);
static struct test_mapping test_mappings[8];
static char test_result[64];

static u64 early_page __initdata;
static u64 early_states[4];

static bool portcullis(u32 id, u64 arg, struct arm_smccc_res *res)
{
	arm_smccc_1_1_hvc(PORTCULLIS_VERSION, 0, 0, 0, res);
	if (res->a0 >> 16 != PORTCULLIS_MAJOR)
		return false;
	arm_smccc_1_1_hvc(id, arg, 0, 0, res);
	return res->a0 == SMCCC_RET_SUCCESS;
}

static int test_make(struct test_mapping *mapping, phys_addr_t phys,
		     size_t size, const char *type)
{
	if (!strcmp(type, "io")) {
		mapping->ports = DEFINE_RES_IO(TEST_PORT, size);
		if (IS_ENABLED(CONFIG_PCI)) {
			int err = pci_remap_iospace(&mapping->ports, phys);

			if (!err)
				mapping->addr = PCI_IOBASE + TEST_PORT;
			return err;
		}
		return -ENODEV;
	}
	if (!strcmp(type, "device"))
		mapping->addr = ioremap(phys, size);
	else if (!strcmp(type, "np"))
		mapping->addr = ioremap_np(phys, size);
	else if (!strcmp(type, "wc"))
		mapping->addr = ioremap_wc(phys, size);
	else if (!strcmp(type, "cache"))
		mapping->addr = ioremap_cache(phys, size);
	else
		return -EINVAL;

	return mapping->addr ? 0 : -ENOMEM;
}

static int test_map(u64 phys, u64 size, const char *type)
{
	int number, err;

	for (number = 0; number < ARRAY_SIZE(test_mappings); number++) {
		if (!test_mappings[number].addr)
			break;
	}
	if (number == ARRAY_SIZE(test_mappings))
		return -ENOSPC;
	err = test_make(&test_mappings[number], phys, size, type);
	if (err)
		return err;
	snprintf(test_result, sizeof(test_result), "%d\n", number);

	return 0;
}

static int test_mapped(u64 number, bool unmap)
{
	struct test_mapping *mapping;

	if (number >= ARRAY_SIZE(test_mappings))
		return -EINVAL;
	mapping = &test_mappings[number];
	if (!mapping->addr)
		return -EINVAL;
	if (!unmap) {
		snprintf(test_result, sizeof(test_result), "%#x\n",
			 readl(mapping->addr));
		return 0;
	}
	if (!mapping->ports.flags)
		iounmap(mapping->addr);
	else if (IS_ENABLED(CONFIG_PCI))
		pci_unmap_iospace(&mapping->ports);
	memset(mapping, 0, sizeof(*mapping));

	return 0;
}

static int test_host(void)
{
	struct arm_smccc_res res;

	if (!portcullis(PORTCULLIS_COUNTERS, 0, &res))
		return -ENXIO;
	snprintf(test_result, sizeof(test_result), "%lu\n", res.a2);

	return 0;
}

static int test_page(u64 phys)
{
	struct arm_smccc_res res;

	if (!portcullis(PORTCULLIS_QUERY_PAGE, phys, &res))
		return -ENXIO;
	snprintf(test_result, sizeof(test_result), "%lu %lu\n", res.a1,
		 res.a2 >> 2 & 7);

	return 0;
}

static int test_early_states(void)
{
	snprintf(test_result, sizeof(test_result), "%llu %llu %llu %llu\n",
		 early_states[0], early_states[1], early_states[2],
		 early_states[3]);

	return 0;
}

static ssize_t test_write(struct file *file, const char __user *user,
			  size_t count, loff_t *pos)
{
	char text[64], type[8] = "";
	u64 first = 0, second = 0;
	int err = -EINVAL;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = 0;

	mutex_lock(&test_lock);
	test_result[0] = 0;
	if (sscanf(text, "map %lli %lli %7s", &first, &second, type) == 3)
		err = test_map(first, second, type);
	else if (sscanf(text, "read %lli", &first) == 1)
		err = test_mapped(first, false);
	else if (sscanf(text, "unmap %lli", &first) == 1)
		err = test_mapped(first, true);
	else if (sscanf(text, "page %lli", &first) == 1)
		err = test_page(first);
	else if (!strncmp(text, "host", 4))
		err = test_host();
	else if (!strncmp(text, "early", 5))
		err = test_early_states();
	mutex_unlock(&test_lock);

	return err ?: count;
}

static int test_show(struct seq_file *seq, void *unused)
{
	mutex_lock(&test_lock);
	seq_puts(seq, test_result);
	mutex_unlock(&test_lock);

	return 0;
}

static int test_open(struct inode *inode, struct file *file)
{
	return single_open(file, test_show, NULL);
}

static const struct file_operations test_fops = {
	.open		= test_open,
	.read		= seq_read,
	.write		= test_write,
	.llseek		= seq_lseek,
	.release	= single_release,
};

static int __init test_early_param(char *arg)
{
	return arg ? kstrtou64(arg, 0, &early_page) : -EINVAL;
}
early_param("mmio_guard_test", test_early_param);

static u64 __init early_state(u64 addr)
{
	struct arm_smccc_res res;

	return portcullis(PORTCULLIS_QUERY_PAGE, addr, &res) ? res.a1 : ~0ULL;
}

static void __init early_note(int step)
{
	u64 first = ALIGN_DOWN(early_page, PAGE_SIZE);
	u64 state = early_state(first);

	if (early_state(first + PAGE_SIZE - 1) != state)
		state = ~0ULL;
	early_states[step] = state;
}

/* While early_ioremap() still works. */
static int __init test_early(void)
{
	void __iomem *first, *second;

	if (!early_page)
		return 0;
	early_note(0);
	first = early_ioremap(early_page, 4);
	second = early_ioremap(early_page + 8, 4);
	early_note(1);
	if (first)
		early_iounmap(first, 4);
	early_note(2);
	if (second)
		early_iounmap(second, 4);
	early_note(3);

	return 0;
}
early_initcall(test_early);

static int __init test_debugfs(void)
{
	struct dentry *dir;

	/* Mappings without the guard can be compared with those under it. */
	dir = debugfs_lookup("mmio_guard", NULL);
	if (dir) {
		debugfs_create_file("test", 0600, dir, NULL, &test_fops);
		dput(dir);
	} else {
		dir = debugfs_create_dir("mmio_guard", NULL);
		debugfs_create_file("test", 0600, dir, NULL, &test_fops);
	}

	return 0;
}
late_initcall_sync(test_debugfs);
